"""A worker of little orders: what a real one does with an image, without the science.

Every slice that is not plain makes one object and one row; its payload says how it misbehaves.
"""

import os
import signal
import threading
import time
from pathlib import Path
from uuid import uuid4

from sqlalchemy import text

from services.kit.adapters import Adapters
from services.kit.bell import Bell
from services.kit.db import Tx
from services.kit.jobs import Lease, LeaseLost
from services.kit.jobs.runner import Handler
from services.kit.objects import ObjectStore, sha256
from services.kit.worker import slice_worker

QUEUE = "stub"
BELLS = "FAULTS_BELLS"
"""How many bells a worker rings where it should ring one."""
PAUSE = threading.Event()
"""Never set. libfaketime breaks `time.sleep`, which asks for an absolute monotonic time."""

# nothing is unique: a second winner must show, not be refused
SCHEMA = (
    "CREATE SCHEMA stub",
    "CREATE TABLE stub.images (job uuid, n integer, key text, sha256 text)",
)
_PUBLISH = text("INSERT INTO stub.images (job, n, key, sha256) VALUES (:job, :n, :key, :sha256)")
_PUBLISHED = text("SELECT 1 FROM stub.images WHERE job = :job AND n = :n")


class Orders:
    """The handler. No two attempts make the same bytes, so that it shows whose were published."""

    def __init__(self, adapters: Adapters) -> None:
        self._db = adapters.db
        self._store: ObjectStore = adapters.store

    def __call__(self, lease: Lease) -> None:
        _note(lease, "began")
        _misbehave(lease)
        gate = Path(lease.payload.get("gate", "/nonexistent"))
        ends = time.monotonic() + lease.payload.get("pause_s", 0)
        while gate.exists() or time.monotonic() < ends:
            _stop(lease)
            PAUSE.wait(0.02)
        if lease.payload.get("plain") or self._published(lease):
            with lease.finishing():
                return
        image = self._draw(lease)
        if lease.payload.get("apart"):
            with lease.writing() as tx:
                _publish(tx, lease, image)
            with lease.finishing():
                return
        with lease.finishing() as tx:
            _publish(tx, lease, image)

    def _published(self, lease: Lease) -> bool:
        with self._db.transaction() as tx:
            where = {"job": lease.job, "n": lease.payload["n"]}
            return tx.session.scalar(_PUBLISHED, where) is not None

    def _draw(self, lease: Lease) -> tuple[str, str]:
        """Key and digest of a new object."""
        content = f"{lease.job}/{lease.payload['n']}/{uuid4()}".encode() * 50
        digest = sha256(content)
        folder = f"projects/{lease.caller.project}/orders/{lease.resource}"
        key = f"{folder}/{lease.payload['n']}-{digest[:16]}"
        self._store.put(key, content)
        _note(lease, "drew")
        return key, digest


def _publish(tx: Tx, lease: Lease, image: tuple[str, str]) -> None:
    key, digest = image
    values = {"job": lease.job, "n": lease.payload["n"], "key": key, "sha256": digest}
    tx.session.execute(_PUBLISH, values)


def _note(lease: Lease, what: str) -> None:
    """Append to the test's file: true even where the database is away."""
    with Path(lease.inputs["notes"]).open("a") as notes:
        notes.write(f"{lease.job} {lease.payload['n']} {what} {os.getpid()}\n")


def _stop(lease: Lease) -> None:
    try:
        lease.stop_now()
    except LeaseLost:
        _note(lease, "left")
        raise


def _misbehave(lease: Lease) -> None:
    if lease.attempt > lease.payload.get("times", lease.attempt):
        return
    match lease.payload.get("do"):
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raise":
            raise RuntimeError("a fault of the stub")
        case "hang":
            PAUSE.wait()
        case _:
            pass


def _ring_often(bell: Bell, times: int) -> None:
    once = bell.ring

    def ring(queue: str) -> None:
        for _ in range(times):
            once(queue)

    bell.ring = ring


def compose(adapters: Adapters) -> dict[str, Handler]:
    if BELLS in os.environ:
        _ring_often(adapters.bell, int(os.environ[BELLS]))
    return {"order": Orders(adapters)}


app = slice_worker("stub", QUEUE, compose)
