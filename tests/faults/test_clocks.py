"""Row 27: somebody sets the clock of the database and of the workers by an hour."""

import glob
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.local.children import Child
from tests.faults.house import until

LIBRARY = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)  # noqa: PTH207
PLAIN = {"plain": True}
"""The store's clock stays: it would refuse what a worker signs an hour off."""

needs_faketime = pytest.mark.skipif(LIBRARY is None, reason="needs Debian's package `faketime`")


@pytest.fixture
def clock(house, tmp_path) -> Iterator[Callable[[str], None]]:
    """Sets the clock of Postgres, a worker and the control process: `clock("+1h")`.

    All three are started anew, to hear of it; the monotonic clock goes on as it does for a real
    step.
    """
    file = tmp_path / "clock"
    file.write_text("+0")
    environment = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    house.kill_server("postgres")
    command = house.servers.postgres.command()
    faked = replace(command, environment={**command.environment, **environment})
    Child(house.servers.state, faked).spawn()
    house.start_servers()
    house.environment.update(environment)
    house.stop_lasting()

    def step(by: str) -> None:
        before = house.query("SELECT now() AS at")[0].at
        file.write_text(by)
        until(
            lambda: abs((house.query("SELECT now() AS at")[0].at - before).total_seconds()) > 3000,
            "the step of the clock",
        )

    yield step
    house.environment.clear()
    house.end_processes()
    house.stop_lasting()
    house.kill_server("postgres")
    house.start_servers()


@needs_faketime
@pytest.mark.slow
@pytest.mark.parametrize("by", ["+1h", "-1h"])
def test_row_27_a_step_of_the_clock(house, clock, tmp_path: Path, by: str) -> None:
    """Nothing expires early, nothing is stranded, nothing is done twice."""
    gate = tmp_path / "gate"
    gate.touch()
    house.control()
    for _ in range(2):
        house.worker()
    running = house.submit({"gate": str(gate), **PLAIN})
    put_off = house.submit({"do": "raise", "times": 2, **PLAIN})
    until(lambda: house.noted("began", running), "the slice to begin")
    until(lambda: house.slices(put_off)[0].crashes == 2, "a slice that is put off")
    clock(by)
    beats = house.slices(running)[0].beats
    several_leases = 1.5 * house.settings.lease_s / house.settings.heartbeat_s
    until(lambda: house.slices(running)[0].beats > beats + several_leases, "some leases' time")
    later = house.submit(PLAIN, PLAIN)
    house.finish(later, put_off)
    gate.unlink()
    house.finish(running)
    assert [s.attempts for s in house.slices(running)] == [1]
    assert [s.attempts for s in house.slices(later)] == [1, 1]


@needs_faketime
@pytest.mark.slow
@pytest.mark.parametrize("by", ["+1h", "-1h"])
def test_row_27_a_worker_dies_as_the_clock_is_set(house, clock, tmp_path: Path, by: str) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    house.control()
    worker = house.worker()
    job = house.submit({"gate": str(gate), **PLAIN})
    until(lambda: house.noted("began", job), "the slice to begin")
    worker.kill()
    clock(by)
    gate.unlink()
    house.worker()
    house.finish(job)
    assert [(s.attempts, s.crashes) for s in house.slices(job)] == [(2, 1)]
