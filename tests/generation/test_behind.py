"""Storing behind the device's back: order, bounds, errors."""

import threading
from collections.abc import Callable

import pytest

from services.generation.service.behind import Behind

WAIT_S = 60


def test_results_come_in_the_order_of_their_tasks() -> None:
    """Although the first is finished last."""
    last_is_done = threading.Event()

    def task(n: int) -> int:
        if n == 0:
            assert last_is_done.wait(WAIT_S)
        if n == 7:
            last_is_done.set()
        return n

    with Behind[int](most=8) as behind:
        for n in range(8):
            behind.do(task, n)
        assert [*behind.done(), *behind.rest()] == list(range(8))


def test_who_gives_tasks_does_not_wait_for_few_of_them() -> None:
    go = threading.Event()
    with Behind[bool](most=4) as behind:
        for _ in range(4):
            behind.do(go.wait, WAIT_S)
        assert list(behind.done()) == []
        go.set()
        assert list(behind.rest()) == [True] * 4


def test_at_most_so_many_are_unfinished() -> None:
    gates = [threading.Event() for _ in range(6)]
    with Behind[bool](most=4, threads=6) as behind:
        for gate in gates:
            behind.do(gate.wait, WAIT_S)
        results = behind.done()
        for gate in gates[:2]:  # two must end before `done` does
            gate.set()
        assert next(results) is True
        assert next(results) is True
        for gate in gates:
            gate.set()
        assert len(list(behind.rest())) == 4


def failing() -> int:
    msg = "the store is away"
    raise OSError(msg)


@pytest.mark.parametrize("ask", [Behind[int].done, Behind[int].rest])
def test_an_error_comes_out_and_the_rest_is_not_begun(ask: Callable) -> None:
    begun: list[int] = []
    held = threading.Event()

    def later(n: int) -> int:
        begun.append(n)
        return n

    with pytest.raises(OSError, match="away"), Behind[int](most=0, threads=1) as behind:  # noqa: PT012 - the block is what is tested
        behind.do(failing)
        behind.do(held.wait, WAIT_S)
        for n in range(5):
            behind.do(later, n)
        behind._given[-1].add_done_callback(lambda _: held.set())  # cancelled, as all before it
        list(ask(behind))
    assert begun == []
