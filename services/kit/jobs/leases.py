"""Claiming a slice, and everything its holder may write: always fenced by the lease.

A worker whose lease is gone (lost, cancelled) finds no row and writes nothing.
"""

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import dropwhile
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import TextClause, text

from api_schemas.accounts import Scope
from services.kit.auth import Caller
from services.kit.bell import Bell
from services.kit.db import Database, Tx
from services.kit.errors import ProblemError
from services.kit.failpoints import failpoint
from services.kit.jobs import fairness, moves, slices
from services.kit.jobs.fairness import ALL, CANDIDATES, Ask, Choice, Turn
from services.kit.jobs.locks import RowBusy, brief_wait
from services.kit.jobs.slices import Holding, Left, Outcome

YIELD_AFTER_S = 60.0
"""A slice that has run for this long ends at its next checkpoint when somebody else waits."""


class LeaseLost(Exception):
    """The slice is no longer ours: stop, write nothing."""


class Released(Exception):
    """Raised by a handler after a checkpoint: the slice goes back to the queue, no harm done.

    It is not taken again within `delay_s`.
    """

    def __init__(self, reason: str = "", delay_s: float = 0.0) -> None:
        super().__init__(reason)
        self.delay_s = delay_s


_FENCE = text("""
    SELECT 1 FROM jobs.slices
    WHERE id = :id AND lease = :lease AND state = 'running' FOR UPDATE
""")

# The job's row, then the slice's: whoever ends the job locks in this order.
_HOLD = text("""
    WITH locked AS (SELECT id FROM jobs.jobs WHERE id = :job FOR NO KEY UPDATE)
    SELECT 1 FROM locked JOIN jobs.slices s ON s.job = locked.id
    WHERE s.id = :id AND s.lease = :lease AND s.state = 'running' FOR UPDATE OF s
""")

_LOCK_JOB = text("SELECT 1 FROM jobs.jobs WHERE id = :job FOR NO KEY UPDATE")

_BEAT = text("""
    UPDATE jobs.slices SET beats = beats + 1
    WHERE id = :id AND lease = :lease AND state = 'running' RETURNING 1
""")

_PROGRESS = text("""
    WITH moved AS (
        UPDATE jobs.jobs SET done = :done, total = :total, unit = :unit, message = :message
        WHERE id = :job AND state = 'running'
          AND EXISTS (SELECT 1 FROM jobs.slices
                      WHERE id = :id AND lease = :lease AND state = 'running')
        RETURNING id, state, done, total, unit, message
    )
    INSERT INTO jobs.events (job, kind, state, done, total, unit, message)
    SELECT id, 'progress', state, done, total, unit, message FROM moved
""")


@dataclass
class _Progress:
    done: float
    total: float
    unit: str
    message: str


@dataclass
class Lease:
    """One slice in one worker's hands. Handlers get it, and nothing else, from the job system."""

    _db: Database
    _bell: Bell
    _ask: Ask
    _held: Holding
    job: UUID
    kind: str
    resource: UUID
    caller: Caller
    inputs: dict[str, Any]
    payload: dict[str, Any]
    attempt: int
    short: bool
    draining: threading.Event
    lost: threading.Event = field(default_factory=threading.Event)
    others_wait: bool = False
    out_of_touch: bool = False
    began: float = field(default_factory=time.monotonic)
    last_sign: float = field(default_factory=time.monotonic)
    last_beat: float = field(default_factory=time.monotonic)
    _progress: _Progress | None = None

    # ------------------------------------------------------------ for handlers

    def progress(self, done: float, total: float, unit: str, message: str = "") -> None:
        """Say how far the whole job is. Cheap: kept in memory until the next heartbeat."""
        self.last_sign = time.monotonic()
        self._progress = _Progress(done, total, unit, message)

    def should_stop(self) -> bool:
        """True when the job was cancelled, the lease lost, or this worker is to shut down.

        Also when nobody may have heard for the lease's time that we live: a database that is
        silent answers no heartbeat with an error either.
        """
        self.last_sign = time.monotonic()
        if not self.lost.is_set() and self.last_sign - self.last_beat > self._ask.lease_s:
            self.out_of_touch = True
            self.lost.set()
        return self.lost.is_set() or self.draining.is_set()

    def should_pause(self) -> bool:
        """True when it is time for a checkpoint: `should_stop`, or somebody else waits.

        A handler that gets True without `should_stop` finishes its slice and appends the rest.
        """
        return self.should_stop() or (
            self.others_wait and time.monotonic() - self.began > YIELD_AFTER_S
        )

    def stop_now(self) -> None:
        """Leave the handler if `should_stop`: `LeaseLost` when it is not ours, else `Released`."""
        if self.should_stop():
            raise LeaseLost if self.lost.is_set() else Released("the worker was asked to stop")

    def note(self, words: str) -> None:
        """Add a line to the job's events. Words for people: no keys, no patient's data."""
        with self._db.transaction() as tx:
            self._fence(tx, _HOLD)
            moves.record(tx.session, self.job, "note", words)

    @contextmanager
    def writing(self) -> Generator[Tx]:
        """A transaction in mid slice that only commits while the lease is ours."""
        with self._db.transaction() as tx:
            self._fence(tx, _FENCE)
            yield tx
        failpoint("after_write")

    @contextmanager
    def finishing(
        self, more: Sequence[dict[str, Any]] = (), *, last: Sequence[dict[str, Any]] = ()
    ) -> Generator[Tx]:
        """The transaction that commits the handler's rows and marks the slice done, as one.

        `more` are payloads of further slices of the job; `last` of those that follow when no
        other slice is left to do. With none left at all the job has succeeded.
        """
        failpoint("before_finish")
        with self._db.transaction() as tx:
            self._fence(tx, _HOLD)
            yield tx
            slices.append(tx.session, self.job, more)
            self._flush(tx)
            left = self._leave(tx, "done")
            ended = left is not None and left.last and not last
            if ended:
                moves.end(tx, self._bell, self.job, "succeeded")
            elif moves.is_cancelling(tx.session, self.job):
                moves.end(tx, self._bell, self.job, "cancelled")
            elif left is not None and left.last:
                slices.append(tx.session, self.job, last)
        self.lost.set()  # what is finished can be written to no more

    # ------------------------------------------------------------ for the runner

    @property
    def unwritten(self) -> bool:
        return self._progress is not None

    def beat(self) -> bool:
        """Show that we live, and write the latest progress; False when the lease is gone."""
        asked = time.monotonic()
        with self._db.transaction() as tx:
            if tx.session.scalar(_BEAT, self._key) is None:
                self.lost.set()
                return False
            self.others_wait = fairness.others_wait(
                tx.session, self._ask, self.caller.person, short=self.short
            )
        self.last_beat = asked
        self._write_progress()
        return True

    def give_back(self, reason: str, delay_s: float = 0.0, *, crashed: bool = False) -> None:
        """Queue the slice again, saying why; after the third crash its job is set aside."""
        with self._db.transaction() as tx:
            self._lock_job(tx)
            left = self._leave(tx, "crashed" if crashed else "released", reason, delay_s)
            if left is None:
                return
            if left.state == "quarantined":
                moves.quarantine(tx, self._bell, self.job, reason)
            else:
                moves.record(tx.session, self.job, "note", f"given back: {reason}")

    def fail(self, error: ProblemError) -> None:
        """End slice and job with a problem; such an error is never retried."""
        with self._db.transaction() as tx:
            self._lock_job(tx)
            reason = error.problem.detail or error.problem.title
            if self._leave(tx, "failed", reason) is not None:
                moves.end(tx, self._bell, self.job, "failed", error.problem)

    # ------------------------------------------------------------ inside

    @property
    def _key(self) -> dict[str, Any]:
        return {"job": self.job, "id": self._held.slice, "lease": self._held.lease}

    def _lock_job(self, tx: Tx) -> None:
        tx.session.execute(_LOCK_JOB, {"job": self.job})

    def _fence(self, tx: Tx, lock: TextClause) -> None:
        if tx.session.scalar(lock, self._key) is None:
            self.lost.set()
            raise LeaseLost

    def _leave(
        self, tx: Tx, outcome: Outcome, reason: str = "", delay_s: float = 0.0
    ) -> Left | None:
        seconds = time.monotonic() - self.began
        left = slices.leave(
            tx.session, self._held, outcome, reason, delay_s=delay_s, seconds=seconds
        )
        if left is None:
            self.lost.set()
        return left

    def _write_progress(self) -> None:
        """Unless somebody holds the job's row: we live all the same, and try at the next beat."""
        latest = self._progress
        if latest is None:
            return
        try:
            with self._db.transaction() as tx, brief_wait(tx.session):
                self._lock_job(tx)
                self._flush(tx)
        except RowBusy:
            self._progress = self._progress or latest

    def _flush(self, tx: Tx) -> None:
        latest, self._progress = self._progress, None
        if latest is None:
            return
        tx.session.execute(_PROGRESS, {**self._key, **vars(latest)})


def claim(
    db: Database, bell: Bell, ask: Ask, draining: threading.Event, choice: Choice = ALL
) -> Lease | None:
    """Lease the fairest runnable slice, or None.

    A job whose row somebody holds for long is passed over.
    """
    lease = partial(_lease, db, bell, ask, draining, choice)
    busy: set[UUID] = set()
    while len(busy) < CANDIDATES:
        with db.transaction() as tx:
            turns = fairness.turns(tx.session, ask, choice, busy)
            # Those before the one that is held were not to be had when it was chosen.
            for turn in dropwhile(lambda each: not each.held, turns):
                taken = lease(tx, turn, wait=False)
                if taken is not None:
                    return taken
        # Somebody was at all of them for a moment. Each in a transaction of its own: two claims
        # that wait for each other's owners would hold each other up.
        found = len(busy)
        for turn in turns:
            try:
                with db.transaction() as tx, brief_wait(tx.session):
                    taken = lease(tx, turn, wait=True)
            except RowBusy:
                busy.add(turn.job)
                continue
            if taken is not None:
                return taken
        if len(busy) == found:
            return None
    return None


def _lease(
    db: Database,
    bell: Bell,
    ask: Ask,
    draining: threading.Event,
    choice: Choice,
    tx: Tx,
    turn: Turn,
    *,
    wait: bool,
) -> Lease | None:
    if not fairness.hold(tx.session, ask, turn, wait=wait):
        return None
    token = uuid4()
    taken = slices.take(tx.session, ask, turn.job, token, wait=wait, off_device=choice.off_device)
    if taken is None:
        return None
    if taken.state == "queued":
        moves.start(tx.session, turn.job)
    return Lease(
        _db=db,
        _bell=bell,
        _ask=ask,
        _held=Holding(taken.slice, token),
        job=turn.job,
        kind=taken.kind,
        resource=taken.resource,
        caller=Caller(
            taken.owner,
            taken.project,
            frozenset({Scope.READ, Scope.WRITE}),
            by_service=True,
        ),
        inputs=taken.inputs,
        payload=taken.payload,
        attempt=taken.attempts,
        short=taken.short,
        draining=draining,
    )
