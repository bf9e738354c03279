"""Claiming a slice, and everything its holder may write: always fenced by the lease.

A worker whose lease is gone (expired, cancelled) finds no row and writes nothing.
"""

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from api_schemas.accounts import Scope
from services.kit.auth import Caller
from services.kit.bell import Bell
from services.kit.db import Database, Tx
from services.kit.errors import ProblemError
from services.kit.jobs.ledger import affected, append_slices, end_job, record

CRASH_LIMIT = 3
CANDIDATES = 16


class LeaseLost(Exception):
    """The slice is no longer ours: stop, write nothing."""


class Released(Exception):
    """Raised by a handler after a checkpoint: the slice goes back to the queue, no harm done."""


class Quarantined(ProblemError):
    slug = "quarantined"
    title = "The work crashed again and again and was set aside"


# Fair share: priority, then whose slices run least now, then who used least in a day, then age.
_CANDIDATES = text("""
    WITH load AS (
        SELECT j.owner, count(*) AS running
        FROM jobs.slices s JOIN jobs.jobs j ON j.id = s.job
        WHERE s.state = 'running' AND j.queue = :queue
        GROUP BY j.owner
    ), used AS (
        SELECT owner, sum(seconds) AS seconds FROM jobs.usage
        WHERE queue = :queue AND hour > now() - interval '24 hours'
        GROUP BY owner
    )
    SELECT j.id
    FROM jobs.jobs j LEFT JOIN load ON load.owner = j.owner LEFT JOIN used ON used.owner = j.owner
    WHERE j.queue = :queue AND j.service = :service AND j.state IN ('queued', 'running')
      AND coalesce(load.running, 0) < :owner_cap
      AND EXISTS (SELECT 1 FROM jobs.slices q
                  WHERE q.job = j.id AND q.state = 'queued' AND q.not_before <= now())
    ORDER BY j.priority DESC, coalesce(load.running, 0), coalesce(used.seconds, 0),
             (j.id = :warm) DESC, j.created_at, j.id
    LIMIT :limit
""")

_LOCK_ACTIVE_JOB = text("""
    SELECT id, kind, resource, owner, project, inputs, state FROM jobs.jobs
    WHERE id = :job AND state IN ('queued', 'running') FOR NO KEY UPDATE SKIP LOCKED
""")

_TAKE = text("""
    UPDATE jobs.slices
    SET state = 'running', lease = :lease, worker = :worker, attempts = attempts + 1,
        started_at = now(), leased_until = now() + make_interval(secs => :lease_s)
    WHERE id = (SELECT id FROM jobs.slices
                WHERE job = :job AND state = 'queued' AND not_before <= now()
                ORDER BY ordinal LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, payload, attempts
""")

_START_JOB = text("""
    UPDATE jobs.jobs SET state = 'running', started_at = coalesce(started_at, now())
    WHERE id = :job AND state = 'queued'
""")

_FENCE = text("""
    SELECT 1 FROM jobs.slices
    WHERE id = :id AND lease = :lease AND state = 'running' FOR UPDATE
""")

_LOCK_JOB = text("SELECT queue FROM jobs.jobs WHERE id = :job FOR NO KEY UPDATE")

_BEAT = text("""
    UPDATE jobs.slices SET leased_until = now() + make_interval(secs => :lease_s)
    WHERE id = :id AND lease = :lease AND state = 'running'
""")

_PROGRESS = text("""
    UPDATE jobs.jobs SET done = :done, total = :total, unit = :unit, message = :message
    WHERE id = :job AND state = 'running'
      AND EXISTS (SELECT 1 FROM jobs.slices
                  WHERE id = :id AND lease = :lease AND state = 'running')
""")

_SET_SLICE = text("""
    UPDATE jobs.slices
    SET state = CAST(:state AS varchar), lease = NULL, leased_until = NULL,
        crashes = crashes + :crashed,
        not_before = now() + make_interval(secs => :delay_s),
        finished_at = CASE WHEN CAST(:state AS varchar) = 'queued' THEN NULL ELSE now() END
    WHERE id = :id AND lease = :lease AND state = 'running'
    RETURNING crashes, extract(epoch FROM now() - started_at) AS seconds
""")

_USE = text("""
    INSERT INTO jobs.usage (owner, queue, hour, seconds)
    SELECT owner, queue, date_trunc('hour', now()), :seconds FROM jobs.jobs WHERE id = :job
    ON CONFLICT (owner, queue, hour) DO UPDATE SET seconds = jobs.usage.seconds + EXCLUDED.seconds
""")

_UNFINISHED = text(
    "SELECT 1 FROM jobs.slices WHERE job = :job AND state IN ('queued', 'running') LIMIT 1"
)


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
    _slice: int
    _token: UUID
    _lease_s: float
    job: UUID
    kind: str
    resource: UUID
    caller: Caller
    inputs: dict[str, Any]
    payload: dict[str, Any]
    attempt: int
    draining: threading.Event
    lost: threading.Event = field(default_factory=threading.Event)
    last_sign: float = field(default_factory=time.monotonic)
    _progress: _Progress | None = None

    def progress(self, done: float, total: float, unit: str, message: str = "") -> None:
        """Say how far the whole job is. Cheap: kept in memory until the next heartbeat."""
        self.last_sign = time.monotonic()
        self._progress = _Progress(done, total, unit, message)

    def should_stop(self) -> bool:
        """True when the job was cancelled, the lease lost, or this worker is to shut down."""
        self.last_sign = time.monotonic()
        return self.lost.is_set() or self.draining.is_set()

    def stop_now(self) -> None:
        """Leave the handler if `should_stop`: `LeaseLost` when it is not ours, else `Released`."""
        if self.lost.is_set():
            raise LeaseLost
        if self.should_stop():
            raise Released

    @contextmanager
    def writing(self) -> Generator[Tx]:
        """A transaction in mid slice that only commits while the lease is ours."""
        with self._db.transaction() as tx:
            self._fence(tx)
            yield tx

    @contextmanager
    def finishing(
        self, more: Sequence[dict[str, Any]] = (), *, last: Sequence[dict[str, Any]] = ()
    ) -> Generator[Tx]:
        """The transaction that commits the handler's rows and marks the slice done, as one.

        `more` are payloads of further slices of the job; `last` of those that follow when no
        other slice is left to do. With none left at all the job has succeeded.
        """
        with self._db.transaction() as tx:
            queue = tx.session.scalar(_LOCK_JOB, {"job": self.job})
            self._fence(tx)
            yield tx
            append_slices(tx.session, self.job, more)
            self._flush(tx)
            self._set(tx, "done")
            if last and tx.session.scalar(_UNFINISHED, {"job": self.job}) is None:
                append_slices(tx.session, self.job, last)
                more = last
            if tx.session.scalar(_UNFINISHED, {"job": self.job}) is None:
                end_job(tx, self._bell, self.job, "succeeded")
            elif more and queue is not None:
                tx.after_commit(lambda: self._bell.ring(queue))
        self.lost.set()  # what is finished can be written to no more

    def beat(self) -> bool:
        """Renew the lease and write the latest progress; False when the lease is gone."""
        with self._db.transaction() as tx:
            held = affected(tx.session, _BEAT, {**self._key, "lease_s": self._lease_s})
            if not held:
                self.lost.set()
                return False
            self._flush(tx)
        return True

    @property
    def unwritten(self) -> bool:
        return self._progress is not None

    def give_back(self, delay_s: float = 0.0, *, crashed: bool = False) -> None:
        """Requeue the slice; after the third crash quarantine it and its job."""
        with self._db.transaction() as tx:
            queue = tx.session.scalar(_LOCK_JOB, {"job": self.job})
            row = self._set(tx, "queued", crashed=crashed, delay_s=delay_s)
            if row is None:
                return
            if row.crashes >= CRASH_LIMIT:
                quarantine(tx, self._bell, self.job, self._slice)
            elif queue is not None and not delay_s:
                tx.after_commit(lambda: self._bell.ring(queue))

    def fail(self, error: ProblemError) -> None:
        """End slice and job with a problem; such an error is never retried."""
        with self._db.transaction() as tx:
            tx.session.execute(_LOCK_JOB, {"job": self.job})
            if self._set(tx, "failed") is not None:
                end_job(tx, self._bell, self.job, "failed", error.problem)

    @property
    def _key(self) -> dict[str, Any]:
        return {"id": self._slice, "lease": self._token}

    def _fence(self, tx: Tx) -> None:
        if tx.session.scalar(_FENCE, self._key) is None:
            self.lost.set()
            raise LeaseLost

    def _set(self, tx: Tx, state: str, *, crashed: bool = False, delay_s: float = 0.0) -> Any:
        values = {**self._key, "state": state, "crashed": int(crashed), "delay_s": delay_s}
        row = tx.session.execute(_SET_SLICE, values).one_or_none()
        if row is None:
            self.lost.set()
        else:
            tx.session.execute(_USE, {"job": self.job, "seconds": float(row.seconds)})
        return row

    def _flush(self, tx: Tx) -> None:
        latest, self._progress = self._progress, None
        if latest is None:
            return
        values = {**self._key, "job": self.job, **vars(latest)}
        if affected(tx.session, _PROGRESS, values):
            record(tx.session, self.job, "progress")


def quarantine(tx: Tx, bell: Bell, job: UUID, slice_id: int) -> None:
    """Set aside a slice that crashed too often, and its job."""
    tx.session.execute(
        text("UPDATE jobs.slices SET state = 'quarantined', finished_at = now() WHERE id = :id"),
        {"id": slice_id},
    )
    problem = Quarantined(f"A part of this job crashed {CRASH_LIMIT} times; see the worker's log")
    end_job(tx, bell, job, "quarantined", problem.problem)


@dataclass(frozen=True)
class Claim:
    """How a worker asks for work."""

    queue: str
    service: str
    worker: str
    lease_s: float
    owner_cap: int


def claim(
    db: Database, bell: Bell, ask: Claim, warm: UUID | None, draining: threading.Event
) -> Lease | None:
    """Lease the fairest runnable slice, or None. `warm` is the job this worker ran last."""
    parameters = {
        "queue": ask.queue,
        "service": ask.service,
        "owner_cap": ask.owner_cap,
        "warm": warm or UUID(int=0),
        "limit": CANDIDATES,
    }
    with db.transaction() as tx:
        for job_id in tx.session.scalars(_CANDIDATES, parameters).all():
            job = tx.session.execute(_LOCK_ACTIVE_JOB, {"job": job_id}).one_or_none()
            if job is None:
                continue
            token = uuid4()
            taken = tx.session.execute(
                _TAKE,
                {"job": job_id, "lease": token, "worker": ask.worker, "lease_s": ask.lease_s},
            ).one_or_none()
            if taken is None:
                continue
            if affected(tx.session, _START_JOB, {"job": job_id}):
                record(tx.session, job_id, "state")
            return Lease(
                _db=db,
                _bell=bell,
                _slice=taken.id,
                _token=token,
                _lease_s=ask.lease_s,
                job=job.id,
                kind=job.kind,
                resource=job.resource,
                caller=Caller(job.owner, job.project, frozenset({Scope.READ, Scope.WRITE})),
                inputs=job.inputs,
                payload=taken.payload,
                attempt=taken.attempts,
                draining=draining,
            )
    return None
