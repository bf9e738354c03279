"""Which workers are up: each says so every few seconds, and is forgotten when it ends.

Where a worker's process is on the same host and its number is no longer that process, it has ended
for certain, and nobody needs to wait for its lease.
"""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import InterfaceError, OperationalError

from services.kit.db import Database, Tx
from services.kit.jobs.fairness import Ask
from services.kit.jobs.models import WorkerSeen
from services.kit.logging import get_logger

log = get_logger(__name__)

SAY_S = 5.0
GONE_S = 30
"""A worker that has not said for so long that it is up is not."""
FORGET_S = 86_400

_UP = text("""
    SELECT count(*) AS workers, count(DISTINCT device) AS devices FROM jobs.workers
    WHERE queue = ANY(:queues) AND seen_at > now() - make_interval(secs => :gone_s)
""")


@dataclass(frozen=True)
class Up:
    """How many workers are up, and on how many devices."""

    workers: int
    devices: int


def count(tx: Tx, queues: list[str]) -> Up:
    """The workers of some queues that are up."""
    row = tx.session.execute(_UP, {"queues": queues, "gone_s": GONE_S}).one()
    return Up(row.workers, row.devices)


class Presence:
    """Says of one worker that it is up."""

    def __init__(self, db: Database, ask: Ask, device: str = "") -> None:
        self._db = db
        self._row = {
            "worker": ask.worker,
            "queue": ask.queue,
            "device": device,
            "process": this_process(),
        }
        self._ended = threading.Event()

    def announce(self) -> None:
        """Say once that the worker is up."""
        values = {**self._row, "seen_at": func.now()}
        with self._db.transaction() as tx:
            said = insert(WorkerSeen).values(values)
            tx.session.execute(said.on_conflict_do_update(index_elements=["worker"], set_=values))

    def keep_saying(self) -> None:
        """Say it from now on, in a thread of its own; a database that is away is waited for."""
        threading.Thread(target=self._say, name="presence", daemon=True).start()

    def end(self) -> None:
        """The worker takes no more work."""
        self._ended.set()

    def _say(self) -> None:
        while True:
            try:
                self.announce()
            except (OperationalError, InterfaceError) as error:
                log.warning("the database is away", error=type(error).__name__)
            if self._ended.wait(SAY_S):
                break
        try:
            with self._db.transaction() as tx:
                tx.session.execute(
                    delete(WorkerSeen).where(WorkerSeen.worker == self._row["worker"])
                )
        except (OperationalError, InterfaceError) as error:
            log.warning("the database is away", error=type(error).__name__)


def forget_long_gone(tx: Tx) -> None:
    """Workers of which nothing was heard for a day leave no row."""
    gone = WorkerSeen.seen_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, FORGET_S)
    tx.session.execute(delete(WorkerSeen).where(gone))


def this_process() -> str:
    """The name of our process among all that its host has run; empty where the host cannot say."""
    return _name(os.getpid()) or ""


def has_ended(process: str) -> bool:
    """True when the process ran on this host, where we would see it, and runs no more."""
    place, _, number = process.rpartition("/")[0].rpartition("/")
    if not number.isdecimal() or place != _place():
        return False
    return _name(int(number)) != process


def _name(pid: int) -> str | None:
    """Host since its start, namespace, number, and when it began; None where it does not run."""
    place = _place()
    try:
        # the name before the last bracket may hold blanks; the state follows it
        state, *more = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return f"{place}/{pid}/{more[18]}" if place and state not in {"Z", "X"} else None


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
