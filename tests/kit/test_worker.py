"""Real Celery worker processes: a bell wakes them, SIGTERM drains them, kill -9 loses nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from services.kit.jobs import NewJob

ROOT = Path(__file__).parents[2]


def until(condition: Callable[[], bool], limit_s: float = 90) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def environment(settings) -> dict[str, str]:
    values = {
        name: getattr(settings, name)
        for name in [
            "database_url",
            "broker_url",
            "s3_endpoint",
            "s3_access_key",
            "s3_secret_key",
            "s3_folder",
            "key_pepper",
            "pseudonym_key",
            "service_secret",
            "scratch",
            "device",
            "log_level",
            "lease_s",
            "heartbeat_s",
        ]
    }
    own = {
        f"SYNTHORAX_{name.upper()}": str(
            value.get_secret_value() if isinstance(value, SecretStr) else value
        )
        for name, value in values.items()
    }
    return os.environ | own | {"SYNTHORAX_SWEEP_S": "1"}


@pytest.fixture
def start(settings, adapters, tmp_path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a module of ours as a process; it is ended with the test, before tables are emptied."""
    started: list[subprocess.Popen[bytes]] = []
    log = (tmp_path / "workers.log").open("wb")

    def begin(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *arguments]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(settings), stdout=log, stderr=log
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    log.close()


@pytest.fixture
def celery(start) -> Callable[..., subprocess.Popen[bytes]]:
    def begin(app: str, queue: str) -> subprocess.Popen[bytes]:
        pool = ("--pool", "threads", "--concurrency", "1", "--without-gossip")
        quiet = ("--without-mingle", "--without-heartbeat", "-n", f"{uuid4()}@%h")
        return start("celery", "-A", app, "worker", "-Q", queue, *pool, *quiet)

    return begin


@pytest.fixture
def control(start) -> Callable[[], subprocess.Popen[bytes]]:
    return lambda: start("services.gateway.worker")


@pytest.fixture
def submit(adapters, ada, tmp_path):
    def put(*payloads: dict) -> UUID:
        inputs = {"notes": str(tmp_path / "notes")}
        job = NewJob("stub", "stub", "stub", ada.caller, uuid4(), inputs, list(payloads))
        with adapters.db.transaction() as tx:
            return adapters.jobs.submit(tx, job)

    return put


@pytest.fixture
def state(adapters):
    def look(job: UUID) -> str:
        with adapters.db.transaction() as tx:
            return adapters.jobs.view(tx, job).state.value

    return look


def notes(tmp_path: Path) -> list[str]:
    path = tmp_path / "notes"
    return path.read_text().split() if path.exists() else []


def test_a_bell_wakes_a_worker_that_rings_on(celery, submit, state, tmp_path) -> None:
    celery("tests.kit.stub_worker:app", "stub")
    job = submit(*({"n": n} for n in range(5)))
    until(lambda: state(job) == "succeeded")
    assert notes(tmp_path) == ["0", "1", "2", "3", "4"]


def test_sigterm_releases_the_slice_without_a_failure(
    adapters, celery, submit, state, tmp_path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    worker = celery("tests.kit.stub_worker:app", "stub")
    job = submit({"n": 0, "gate": str(gate)})
    until(lambda: notes(tmp_path) == ["0"])
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)
    with adapters.db.transaction() as tx:
        row = tx.session.execute(text("SELECT state, crashes FROM jobs.slices")).one()
    assert tuple(row) == ("queued", 0)
    gate.unlink()
    celery("tests.kit.stub_worker:app", "stub")
    until(lambda: state(job) == "succeeded")


def test_a_killed_workers_slice_runs_again(celery, control, submit, state, tmp_path) -> None:
    """The control worker takes back the lease and rings; finished slices are not redone."""
    gate = tmp_path / "gate"
    gate.touch()
    control()
    worker = celery("tests.kit.stub_worker:app", "stub")
    job = submit({"n": 0}, {"n": 1, "gate": str(gate)})
    until(lambda: notes(tmp_path) == ["0", "1"])
    worker.kill()
    worker.wait()
    gate.unlink()
    celery("tests.kit.stub_worker:app", "stub")
    until(lambda: state(job) == "succeeded")
    assert notes(tmp_path) == ["0", "1", "1"]


FORGED = {
    "text": b"no json at all",
    "bytes": b"\xff\xfe\x00",
    "list": b"[]",
    "empty": b"{}",
    "string": b'"text"',
    "deep": b"[" * 100_000,
    "hollow": b'{"body": "", "properties": {}, "headers": null}',
    "giant": b"x" * 20_000_000,
}


def test_a_message_that_is_none_is_dropped(adapters, celery, submit, state) -> None:
    """One worker meets them all, and works after each."""
    worker = celery("tests.kit.stub_worker:app", "stub")
    for name, forged in FORGED.items():
        adapters.bell._redis.lpush("stub", forged)
        job = submit({"n": 0})
        until(lambda job=job: state(job) == "succeeded")
        assert worker.poll() is None, name


def test_an_unknown_task_is_dropped(adapters, celery, submit, state) -> None:
    worker = celery("tests.kit.stub_worker:app", "stub")
    for task in ("synthorax.unknown", "os.system"):
        adapters.bell._app.send_task(task, args=["x"], queue="stub")
    adapters.bell._app.send_task("synthorax.bell", args=["too", "many"], queue="stub")
    job = submit({"n": 0})
    until(lambda: state(job) == "succeeded")
    assert worker.poll() is None
