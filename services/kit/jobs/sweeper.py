"""Every few seconds: requeue what a dead worker held, settle who waits, ring what is forgotten.

Trusts no clock that anybody can set. A holder is dead when its process on this host has ended, or
when its slice's `beats` have not moved for the lease's time by this process's monotonic clock; what
the sweeper has not watched for so long, it leaves alone.
"""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, select, text

from services.kit.bell import Bell
from services.kit.db import Database, Tx
from services.kit.jobs import faults, moves, presence, slices
from services.kit.jobs.locks import RowBusy, brief_wait
from services.kit.jobs.models import Cancellation, Job
from services.kit.jobs.slices import Holding
from services.kit.logging import get_logger

log = get_logger(__name__)

TIDY_EVERY_S = 3600.0
OPEN_STATES = ("blocked", "queued", "running")
LONGEST_DELAY_S = 600
"""No slice is put off for longer; one that seems to be was put off by another clock."""

_HELD = text("""
    SELECT s.id, s.job, s.lease, s.beats, coalesce(w.process, '') AS process
    FROM jobs.slices s LEFT JOIN jobs.attempts a ON a.slice = s.id AND a.number = s.attempts
    LEFT JOIN jobs.workers w ON w.worker = a.worker
    WHERE s.state = 'running' ORDER BY s.id
""")

_TRY_JOB = text("SELECT state FROM jobs.jobs WHERE id = :job FOR NO KEY UPDATE SKIP LOCKED")

_STILL = text("SELECT 1 FROM jobs.slices WHERE id = :id AND lease = :lease AND beats = :beats")

_PUT_OFF = text("""
    UPDATE jobs.slices SET not_before = now() WHERE id IN (
        SELECT id FROM jobs.slices
        WHERE state = 'queued' AND not_before > now() + make_interval(secs => :longest_s)
        FOR NO KEY UPDATE SKIP LOCKED)
""")

_RUNNABLE = text("""
    SELECT DISTINCT j.queue FROM jobs.jobs j
    WHERE j.state IN ('queued', 'running') AND j.finished_at IS NULL
      AND EXISTS (SELECT 1 FROM jobs.slices s
                  WHERE s.job = j.id AND s.state = 'queued' AND s.not_before <= now())
""")

_OLD_PROGRESS = text("""
    DELETE FROM jobs.events WHERE id IN (
        SELECT e.id FROM jobs.events e JOIN jobs.jobs j ON j.id = e.job
        WHERE e.kind = 'progress' AND j.finished_at < now() - interval '1 day')
""")


@dataclass
class _Watched:
    beats: int
    since: float


class Sweeper:
    """What makes a crash, a lost bell and a missed wake-up harmless."""

    def __init__(
        self,
        db: Database,
        bell: Bell,
        lease_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._bell = bell
        self._lease_s = lease_s
        self._clock = clock
        self._watched: dict[Holding, _Watched] = {}
        self._looked = self._tidied = clock()

    def run(self, every_s: float, ending: threading.Event) -> None:
        """Sweep until told to end; a server that is away is waited for."""
        while not ending.wait(every_s):
            try:
                self.sweep()
            except Exception as error:
                if faults.absence(error) is None:
                    raise
                log.warning("a server is away", error=type(error).__name__)

    def sweep(self) -> None:
        self.take_back_lost()
        self.cancel_requested()
        self.settle_blocked()
        self.ring_forgotten()
        if self._clock() - self._tidied > TIDY_EVERY_S:
            self.tidy()

    def take_back_lost(self) -> None:
        with self._db.transaction() as tx:
            held = tx.session.execute(_HELD).all()
        now = self._clock()
        if now - self._looked > self._lease_s:
            # We could not look for so long that nobody else may have reached the database either.
            self._watched.clear()
        self._looked = now
        before, self._watched = self._watched, {}
        for row in held:
            holding = Holding(row.id, row.lease)
            watched = before.get(holding)
            if watched is None or watched.beats != row.beats:
                watched = _Watched(row.beats, now)
            self._watched[holding] = watched
            if presence.has_ended(row.process):
                self._take_back(holding, row.job, row.beats, "its worker's process has ended")
            elif now - watched.since > self._lease_s:
                reason = f"its worker was not heard of for {self._lease_s:.0f} s"
                self._take_back(holding, row.job, row.beats, reason)

    def _take_back(self, holding: Holding, job: UUID, beats: int, reason: str) -> None:
        with self._brief() as tx:
            if tx.session.scalar(_TRY_JOB, {"job": job}) is None:
                return  # somebody writes to the job: whoever that is, the next sweep looks again
            values = {"id": holding.slice, "lease": holding.lease, "beats": beats}
            if tx.session.scalar(_STILL, values) is None:
                return
            left = slices.leave(tx.session, holding, "lost", reason)
            if left is None:
                return
            log.warning("lease lost", job=str(job), slice=holding.slice, state=left.state)
            if left.state == "quarantined":
                moves.quarantine(tx, self._bell, job, reason)
            else:
                moves.record(tx.session, job, "note", f"given back: {reason}")

    def settle_blocked(self) -> None:
        with self._db.transaction() as tx:
            blocked = tx.session.scalars(select(Job.id).where(Job.state == "blocked")).all()
        for job in blocked:
            with self._brief() as tx:
                moves.settle(tx, self._bell, job, skip_locked=True)

    def cancel_requested(self) -> None:
        """Cancel what was being written to when that was asked for."""
        with self._db.transaction() as tx:
            jobs = tx.session.scalars(select(Cancellation.job)).all()
        for job in jobs:
            with self._brief() as tx:
                state = tx.session.scalar(_TRY_JOB, {"job": job})
                if state in OPEN_STATES:
                    moves.end(tx, self._bell, job, "cancelled")
                elif state is not None:  # it has come to another end
                    tx.session.execute(delete(Cancellation).where(Cancellation.job == job))

    @contextmanager
    def _brief(self) -> Generator[Tx]:
        """A transaction that waits for nobody for long: one job must not keep all others waiting.
        What could not be done now is done by a later sweep.
        """
        try:
            with self._db.transaction() as tx, brief_wait(tx.session):
                yield tx
        except RowBusy:
            log.info("somebody is at a job; a later sweep looks again")

    def ring_forgotten(self) -> None:
        with self._db.transaction() as tx:
            tx.session.execute(_PUT_OFF, {"longest_s": LONGEST_DELAY_S})
            queues = tx.session.scalars(_RUNNABLE).all()
        for queue in queues:
            self._bell.ring_if_silent(queue)

    def tidy(self) -> None:
        """Of work that ended long ago only the changes of state stay on record."""
        self._tidied = self._clock()
        with self._db.transaction() as tx:
            tx.session.execute(_OLD_PROGRESS)
            presence.forget_long_gone(tx)
