"""Rows 14, 25 and 26: the database is cut off, stopped, or away for longer than a lease."""

import signal
from pathlib import Path

import pytest

from tests.faults.house import until


@pytest.fixture
def gate(tmp_path) -> Path:
    """While this file stands, slices that name it do not end."""
    path = tmp_path / "gate"
    path.touch()
    return path


@pytest.mark.parametrize("delivered", [False, True])
def test_row_14_cut_during_the_commit(house, delivered) -> None:
    """The COMMIT of a finish is lost on its way, or done and its answer lost."""
    house.control()
    worker = house.worker(**house.through("database"))
    until(lambda: house.waits_for_a_bell(worker), "the worker to listen")
    trap = house.database.trap(b"INSERT INTO stub.images", b"COMMIT", delivered=delivered)
    job = house.submit({})
    until(trap.sprung.is_set, "the trap to spring")
    house.finish(job)
    assert house.noted("drew") == ([0] if delivered else [0, 0])
    assert house.slices(job)[0].crashes == 0


def test_row_25_postgres_stops_at_once(house) -> None:
    house.control()
    house.worker()
    with house.http(house.web()) as http:
        for _ in range(10):
            house.accept(http.post("/orders", json=house.order({}, {})))
        until(lambda: len(house.noted("drew")) > 2, "some work")
        house.kill_server("postgres", signal.SIGQUIT)
        refused = http.post("/orders", json=house.order({}))
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        house.start_servers()
        house.accept(http.post("/orders", json=house.order({})))
    house.finish(*house.accepted)


def give_up_and_finish(house, gate, away, back) -> None:
    """A worker loses the database in mid slice, stops for it, and the job finishes later."""
    house.control()
    house.worker(**house.through("database"))
    job = house.submit({"gate": str(gate)})
    until(lambda: house.noted("began") == [0], "the slice to begin")
    away()
    until(lambda: house.noted("left") == [0], "the worker to give up its lease")
    back()
    gate.unlink()
    house.finish(job)
    assert house.noted("drew") == [0]


@pytest.mark.slow
def test_row_26_postgres_away_in_mid_job(house, gate) -> None:
    give_up_and_finish(house, gate, lambda: house.kill_server("postgres"), house.start_servers)


@pytest.mark.slow
def test_row_26_postgres_silent_in_mid_job(house, gate) -> None:
    """No error, no answer: only the worker's own clock can tell."""
    give_up_and_finish(house, gate, house.database.stall, house.database.heal)
