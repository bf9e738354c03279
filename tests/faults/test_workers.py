"""Rows 10 to 15 and 21 to 24: workers that die, freeze, hang or drain; jobs that are cancelled."""

import threading
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from services.kit.collector import Collector
from services.kit.db import Tx
from services.kit.jobs import Lease
from services.kit.jobs.ledger import JobFinished
from services.kit.worker import runner
from tests.faults.house import until


@pytest.fixture
def gate(house, tmp_path) -> Path:
    """While this file stands, slices that name it do not end."""
    path = tmp_path / "gate"
    path.touch()
    return path


def test_row_10_worker_killed_in_mid_slice(house, gate) -> None:
    house.control()
    worker = house.worker()
    job = house.submit({}, {}, {"gate": str(gate)}, {})
    until(lambda: house.noted("began") == [0, 1, 2], "the third slice to begin")
    worker.kill()
    gate.unlink()
    house.worker()
    house.finish(job)
    assert sorted(house.noted("began")) == [0, 1, 2, 2, 3]
    assert [s.crashes for s in house.slices(job)] == [0, 0, 1, 0]


def test_row_11_a_zombie_writes_nothing(house, gate) -> None:
    house.control()
    zombie = house.worker()
    job = house.submit({"gate": str(gate)})
    until(lambda: house.noted("began") == [0], "the slice to begin")
    zombie.freeze()
    until(lambda: house.slices(job)[0].state == "queued", "the lease to expire")
    gate.unlink()
    house.worker()
    house.finish(job)
    published = house.query("SELECT * FROM stub.images")
    before = house.query("SELECT * FROM jobs.slices")
    zombie.thaw()
    zombie.terminate()
    zombie.wait()
    assert house.query("SELECT * FROM stub.images") == published
    assert house.query("SELECT * FROM jobs.slices") == before


def test_row_12_killed_between_object_and_row(house) -> None:
    house.control()
    worker = house.worker(fail="after_put:kill")
    job = house.submit({})
    worker.wait()
    (orphan,) = house.adapters.store.keys("projects/")
    assert house.query("SELECT * FROM stub.images") == []
    house.worker()
    house.finish(job)
    (image,) = house.query("SELECT key FROM stub.images")
    assert set(house.adapters.store.keys("projects/")) == {orphan, image.key}
    adapters = house.adapters
    collector = Collector(adapters.db, adapters.store, {"orders": named}, grace_s=0, every_s=1)
    until(lambda: collector.collect().removed, "the orphan to be old enough")
    assert set(adapters.store.keys("projects/")) == {image.key}


def named(tx: Tx, resource: UUID, keys: Sequence[str]) -> set[str]:
    """For the collector: what rows name."""
    return set(tx.session.scalars(text("SELECT key FROM stub.images")))


def test_row_13_killed_between_last_row_and_finish(house) -> None:
    house.control()
    worker = house.worker(fail="before_finish:kill")
    job = house.submit({"apart": True})
    worker.wait()
    published = house.query("SELECT * FROM stub.images")
    assert len(published) == 1
    house.worker()
    house.finish(job)
    assert house.query("SELECT * FROM stub.images") == published
    assert house.noted("began") == [0, 0]
    assert house.noted("drew") == [0]


@pytest.mark.slow
def test_row_15_a_job_that_always_kills_its_process(house) -> None:
    house.control()
    poisoned = house.submit({"do": "kill"})
    others: list = []
    for attempt in range(1, 4):
        worker = house.worker()
        until(lambda: len(house.noted("began", poisoned)) == attempt, "the attempt")  # noqa: B023 - at once
        others.append(house.submit({}))
        worker.wait()
    until(lambda: house.state(poisoned) == "quarantined", "quarantine")
    house.worker()
    house.finish(*others)
    assert house.noted("began", poisoned) == [0, 0, 0]


def test_row_21_an_engine_that_hangs(house) -> None:
    house.control()
    worker = house.worker(stall_s=3)
    job = house.submit({"do": "hang"})
    until(lambda: house.noted("began"), "the slice to begin")
    assert worker.wait() != 0
    (row,) = house.slices(job)
    assert (row.state, row.lease, row.crashes) == ("queued", None, 1)
    with house.adapters.db.transaction() as tx:
        house.adapters.jobs.cancel(tx, job)


def test_row_22_sigterm_in_mid_slice(house, gate) -> None:
    worker = house.worker()
    job = house.submit({}, {"gate": str(gate)})
    until(lambda: house.noted("began") == [0, 1], "the second slice to begin")
    worker.terminate()
    worker.wait()
    states = [(s.state, s.crashes) for s in house.slices(job)]
    assert states == [("done", 0), ("queued", 0)]
    gate.unlink()
    house.worker()
    house.finish(job)
    assert house.noted("drew") == [0, 1]


def test_row_23_cancel_queued_running_and_finished(house, gate) -> None:
    with house.http(house.web()) as http:

        def cancel(job: object) -> tuple[int, str]:
            answer = http.post(f"/orders/{job}/cancel")
            return answer.status_code, answer.json().get("state", "")

        queued = house.submit({})
        assert cancel(queued) == (200, "cancelled")
        house.worker()
        running = house.submit({"gate": str(gate)})
        until(lambda: house.noted("began", running), "the slice to begin")
        assert cancel(running) == (200, "cancelled")
        finished = house.submit({})  # the same worker takes it: it has left the cancelled one
        house.finish(finished)
        assert cancel(finished) == (409, "")
        assert cancel(running) == (200, "cancelled")
    assert house.noted("began", queued) == []
    assert house.noted("drew", running) == []
    assert [s.state for s in house.slices(running)] == ["cancelled"]


def test_row_24_cancel_races_finish(house) -> None:
    """200 times, in threads of this process: both at once as near as can be."""
    meet = threading.Barrier(2, timeout=60)

    def finish(lease: Lease) -> None:
        meet.wait()
        with lease.finishing():
            pass

    worker = runner(house.adapters, "stub", "stub", {"race": finish})
    for _ in range(200):
        job = house.submit({}, kind="race")
        thread = threading.Thread(target=worker.run_one)
        thread.start()
        meet.wait()
        refused = False
        try:
            with house.adapters.db.transaction() as tx:
                house.adapters.jobs.cancel(tx, job)
        except JobFinished:
            refused = True
        first = house.view(job)
        thread.join()
        assert first.state.value == ("succeeded" if refused else "cancelled")
        assert house.view(job) == first
