"""Rows 5 to 9: bells that are lost, late or doubled, and a broker that is away."""

import time
from collections.abc import Callable

from tests.faults.house import until
from tests.faults.stub_worker import BELLS


def test_row_05_a_bell_swallowed_by_a_frozen_worker(house) -> None:
    house.control()
    frozen = house.worker()
    until(lambda: house.waits_for_a_bell(frozen), "the worker to wait for a bell")
    frozen.freeze()
    job = house.submit({})
    until(lambda: house.redis.llen("stub") == 0, "the bell to be swallowed")
    frozen.kill()
    house.worker()
    house.finish(job)


def test_row_06_the_broker_forgets_everything(house) -> None:
    house.control()
    gate = house.work / "gate"
    gate.touch()
    jobs = [house.submit({"gate": str(gate)}) for _ in range(20)]
    house.worker()
    until(lambda: house.noted("began"), "the first to begin")
    house.redis.flushall()
    gate.unlink()
    house.finish(*jobs)


SOON_S = 2.5
"""A second where the machine is idle; a request that hangs on the broker waits for five."""


def quickest(post: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest of some calls: the others may have waited for this busy machine."""
    taken = []
    for _ in range(times):
        began = time.monotonic()
        post()
        taken.append(time.monotonic() - began)
    return min(taken)


def post_while(house, down: Callable[[], None], up: Callable[[], None]) -> None:
    """Orders are accepted within a second while the broker is away, and done when it is back."""
    house.control()
    with house.http(house.web()) as http:

        def post() -> object:
            return house.accept(http.post("/orders", json=house.order({})))

        post()
        down()
        assert quickest(post) < SOON_S
        up()
    house.worker()
    house.finish(*house.accepted)


def test_row_07_posting_while_the_broker_is_down(house) -> None:
    post_while(house, lambda: house.kill_server("valkey"), house.start_servers)


def test_row_07_posting_while_the_broker_is_frozen(house) -> None:
    post_while(house, lambda: house.freeze_server("valkey"), lambda: house.thaw_server("valkey"))


def test_row_08_the_broker_killed_five_times_under_load(house) -> None:
    house.control()
    workers = [house.worker(), house.worker()]
    for _ in range(5):
        until(lambda: any(map(house.waits_for_a_bell, workers)), "a worker to listen")
        jobs = [house.submit(*[{}] * 20) for _ in range(2)]
        until(lambda: len(house.noted("drew", jobs[0])) > 2, "some work")  # noqa: B023 - at once
        house.kill_server("valkey")
        house.start_servers()
    house.finish(*house.accepted)
    assert len(house.noted("drew")) == 200


def test_row_09_every_bell_five_times(house) -> None:
    """Those of the requests and those that workers ring for what becomes runnable."""
    house.environment[BELLS] = "5"
    for _ in range(2):
        house.worker()
    house.environment.clear()
    for _ in range(10):
        first = house.submit({}, {})
        house.submit({}, waits_for=[first])
        for _ in range(4):
            house.adapters.bell.ring("stub")
    house.finish(*house.accepted)
    assert len(house.noted("began")) == 30
    assert {row.attempts for row in house.query("SELECT attempts FROM jobs.slices")} == {1}
