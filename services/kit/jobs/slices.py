"""The moves of a slice, each one statement: take, leave, append. Whoever calls holds the job's row.

Every leaving is fenced by the lease: a slice that is no longer the caller's does not move, and
nothing is noted of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast
from uuid import UUID

from sqlalchemy import Row, insert, text
from sqlalchemy.orm import Session

from services.kit.jobs.fairness import Ask, decayed_soon
from services.kit.jobs.models import Slice

CRASH_LIMIT = 3

Outcome = Literal["done", "released", "crashed", "lost", "failed", "cancelled"]

_STATE_AFTER: dict[Outcome, str] = {
    "done": "done",
    "released": "queued",
    "crashed": "queued",
    "lost": "queued",
    "failed": "failed",
    "cancelled": "cancelled",
}

# Whoever takes holds the owner already: this statement's snapshot is younger, and the cap holds
# although many workers choose at once.
_TAKE = """
    WITH job AS (
        SELECT j.id, j.kind, j.resource, j.owner, j.project, j.inputs, j.state, j.short
        FROM jobs.jobs j
        WHERE j.id = :job AND j.state IN ('queued', 'running')
          AND (SELECT count(*) FROM jobs.slices s JOIN jobs.jobs k ON k.id = s.job
               WHERE s.state = 'running' AND k.queue = j.queue AND k.owner = j.owner)
              < coalesce((SELECT running_cap FROM jobs.shares WHERE owner = j.owner), :running_cap)
        FOR NO KEY UPDATE OF j {skip}
    ), taken AS (
        UPDATE jobs.slices
        SET state = 'running', lease = :lease, attempts = attempts + 1, started_at = now()
        WHERE id = (SELECT id FROM jobs.slices
                    WHERE job = (SELECT id FROM job) AND state = 'queued' AND not_before <= now()
                      AND (NOT :off_device OR {step} = ANY(:steps))
                    ORDER BY ordinal LIMIT 1 FOR UPDATE SKIP LOCKED)
        RETURNING id, payload, attempts
    ), noted AS (
        INSERT INTO jobs.attempts (slice, number, job, worker, about)
        SELECT id, attempts, :job, :worker, CAST(:about AS jsonb) FROM taken
    )
    SELECT job.*, taken.id AS slice, taken.payload, taken.attempts
    FROM job, taken, set_config('synchronous_commit', 'off', true)
"""
_STEP = "(SELECT kind FROM job) || '/' || coalesce(payload ->> 'step', '')"
_AWAIT_AND_TAKE = text(_TAKE.format(skip="", step=_STEP))
_TRY_TO_TAKE = text(_TAKE.format(skip="SKIP LOCKED", step=_STEP))

_LEAVE = text(
    """
    WITH gone AS (
        UPDATE jobs.slices
        SET state = CASE WHEN :crash = 1 AND crashes + 1 >= :crash_limit THEN 'quarantined'
                         ELSE CAST(:state AS varchar) END,
            finished_at = CASE WHEN :state = 'queued' THEN NULL ELSE now() END,
            crashes = crashes + :crash,
            lease = NULL,
            not_before = now() + make_interval(secs => :delay_s)
        WHERE id = :id AND lease = :lease AND state = 'running'
        RETURNING id, job, state, attempts, started_at
    ), noted AS (
        UPDATE jobs.attempts a SET ended_at = now(), outcome = :outcome, reason = :reason
        FROM gone WHERE a.slice = gone.id AND a.number = gone.attempts
    ), ran AS (
        SELECT job, coalesce(
            CAST(:seconds AS double precision),
            greatest(extract(epoch FROM now() - started_at), 0)
        ) AS seconds
        FROM gone
    ), lasted AS (
        UPDATE jobs.jobs j SET seconds = j.seconds + ran.seconds
        FROM ran WHERE j.id = ran.job AND CAST(:outcome AS varchar) IN ('done', 'released')
    ), used AS (
        INSERT INTO jobs.usage AS u (owner, queue, seconds, short_seconds)
        SELECT j.owner, j.queue, ran.seconds, CASE WHEN j.short THEN ran.seconds ELSE 0 END
        FROM ran JOIN jobs.jobs j ON j.id = ran.job
        ON CONFLICT (owner, queue) DO UPDATE
        SET seconds = jobs.decayed(u.seconds, u.as_of) + EXCLUDED.seconds,
            short_seconds = {short} + EXCLUDED.short_seconds,
            as_of = greatest(u.as_of, EXCLUDED.as_of)
    )
    SELECT state, NOT EXISTS (
        SELECT 1 FROM jobs.slices s
        WHERE s.job = gone.job AND s.id <> gone.id AND s.state IN ('queued', 'running')
    ) AS last
    FROM gone
""".format(short=decayed_soon("u.short_seconds", "u.as_of"))  # noqa: S608 - joined from constants
)

_RUNNING = text(
    "SELECT id, lease FROM jobs.slices WHERE job = :job AND state = 'running' ORDER BY id"
)

_DROP_QUEUED = text(
    "UPDATE jobs.slices SET state = 'cancelled', finished_at = now() "
    "WHERE job = :job AND state = 'queued'"
)

_FORGIVE = text(
    "UPDATE jobs.slices SET state = 'queued', crashes = 0, finished_at = NULL, not_before = now() "
    "WHERE job = :job AND state = 'quarantined'"
)


@dataclass(frozen=True)
class Holding:
    """A slice and the token under which somebody holds it."""

    slice: int
    lease: UUID


@dataclass(frozen=True)
class Left:
    """What became of a slice that was left."""

    state: str
    last: bool
    """Whether the job has no other slice to do."""


def take(
    session: Session, ask: Ask, job: UUID, lease: UUID, *, wait: bool, off_device: bool = False
) -> Row[Any] | None:
    """Lock the job and lease its first runnable slice: the job's columns, slice, payload, attempts.

    With `off_device` only one that needs no device. None when there is none to be had: without
    `wait`, when somebody else is at the job; else when its turn has passed. Should the server lose
    this commit in a crash, the slice is queued as it was, and its holder finds no lease: the
    commit need not wait for the disk.
    """
    values = {
        "job": job,
        "lease": lease,
        "worker": ask.worker,
        "about": ask.about,
        "running_cap": ask.running_cap,
        "off_device": off_device,
        "steps": list(ask.off_device),
    }
    return session.execute(_AWAIT_AND_TAKE if wait else _TRY_TO_TAKE, values).one_or_none()


def leave(
    session: Session,
    held: Holding,
    outcome: Outcome,
    reason: str,
    *,
    delay_s: float = 0.0,
    seconds: float | None = None,
) -> Left | None:
    """End an attempt; None when the slice was not `held` any more.

    A crash or loss too many sets the slice aside: the state is then `quarantined`. The owner is
    charged `seconds`, or by the database's clock where the caller does not know them.
    """
    values = {
        "id": held.slice,
        "lease": held.lease,
        "state": _STATE_AFTER[outcome],
        "outcome": outcome,
        "reason": reason,
        "crash": int(outcome in {"crashed", "lost"}),
        "crash_limit": CRASH_LIMIT,
        "delay_s": delay_s,
        "seconds": seconds,
    }
    row = session.execute(_LEAVE, values).one_or_none()
    return None if row is None else Left(row.state, row.last)


def leave_all(session: Session, job: UUID, outcome: Outcome, reason: str) -> None:
    """Take every running slice of a job from its holder."""
    for row in session.execute(_RUNNING, {"job": job}).all():
        leave(session, Holding(row.id, row.lease), outcome, reason)


def drop_queued(session: Session, job: UUID) -> None:
    session.execute(_DROP_QUEUED, {"job": job})


def forgive(session: Session, job: UUID) -> None:
    """Queue again what was set aside, as if it had never crashed."""
    session.execute(_FORGIVE, {"job": job})


def append(session: Session, job: UUID, payloads: Sequence[dict[str, Any]]) -> None:
    """Queue further slices of a job behind those it has."""
    if not payloads:
        return
    last = session.scalar(
        text("SELECT coalesce(max(ordinal), -1) FROM jobs.slices WHERE job = :job"), {"job": job}
    )
    first = cast("int", last) + 1
    session.execute(
        insert(Slice),
        [{"job": job, "ordinal": first + i, "payload": p} for i, p in enumerate(payloads)],
    )
