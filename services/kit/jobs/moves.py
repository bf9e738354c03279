"""The moves of a job, and what follows from them for the jobs that wait for it.

Whoever calls has locked the job's row; the database's trigger refuses what is not in its table.
"""

from typing import Any
from uuid import UUID

from sqlalchemy import case, delete, func, select, text, update
from sqlalchemy.orm import Session

from api_schemas.base import Problem
from services.kit.bell import Bell
from services.kit.db import Tx
from services.kit.errors import ProblemError
from services.kit.jobs import slices
from services.kit.jobs.endings import dependency_failed
from services.kit.jobs.models import NOW, Cancellation, Job, Wait

IN_VAIN = ("failed", "cancelled")
"""States of a job for which nobody needs to wait any longer. Quarantined work may be retried."""

_RECORD = text(
    "INSERT INTO jobs.events (job, kind, state, done, total, unit, message) "
    "SELECT id, :kind, state, done, total, unit, coalesce(:message, message) "
    "FROM jobs.jobs WHERE id = :job"
)


WITH_WARNINGS = "succeeded with warnings"
"""What a job says last whose result must be looked at: the resource tells why."""
_CLOSING = case((Job.message == WITH_WARNINGS, Job.message), else_="")
_TOTAL = case((Job.total > 0, Job.total), else_=Job.done)


class Quarantined(ProblemError):
    slug = "quarantined"
    title = "The work crashed again and again and was set aside"


def record(session: Session, job: UUID, kind: str, message: str | None = None) -> None:
    """Append the job's present standing to its events, with words of its own if given."""
    session.execute(_RECORD, {"job": job, "kind": kind, "message": message})


def move(session: Session, job: UUID, state: str, **more: Any) -> None:
    """Put a job into another state, and say so in its events."""
    session.execute(
        update(Job)
        .where(Job.id == job)
        .values(state=state, **more)
        .execution_options(synchronize_session=False)
    )
    record(session, job, "state")


def start(session: Session, job: UUID) -> None:
    """The first slice of a queued job is taken."""
    move(session, job, "running", started_at=func.coalesce(Job.started_at, NOW))


def end(tx: Tx, bell: Bell, job: UUID, state: str, problem: Problem | None = None) -> None:
    """Move a job to an end; its open slices are cancelled, and whoever waits for it is settled."""
    session = tx.session
    if state in IN_VAIN:
        slices.leave_all(session, job, "cancelled", f"the job has {state}")
        slices.drop_queued(session, job)
    told = None if problem is None else problem.model_dump(mode="json")
    # words on how far it was say nothing of what is done; what had no total has one now
    rest = {"message": _CLOSING, "total": _TOTAL} if state == "succeeded" else {}
    move(session, job, state, finished_at=NOW, problem=told, **rest)
    session.execute(delete(Cancellation).where(Cancellation.job == job))
    waiting = session.scalars(select(Wait.job).where(Wait.awaited == job).order_by(Wait.job)).all()
    for dependent in waiting:
        settle(tx, bell, dependent)


def is_cancelling(session: Session, job: UUID) -> bool:
    """Whether its cancellation was asked for and has yet to come."""
    return session.get(Cancellation, job) is not None


def quarantine(tx: Tx, bell: Bell, job: UUID, reason: str) -> None:
    """Set a job aside. Its other slices wait for `retry`; who waits for the job waits on."""
    slices.leave_all(tx.session, job, "released", "another part of the job was set aside")
    times = f"A part of this job crashed {slices.CRASH_LIMIT} times; the last time: {reason}"
    end(tx, bell, job, "quarantined", Quarantined(times).problem)


def settle(tx: Tx, bell: Bell, job: UUID, *, skip_locked: bool = False) -> None:
    """Queue a blocked job whose wait is over, or fail it when it waited in vain.

    With `skip_locked` a job that somebody is at is left as it is.
    """
    session = tx.session
    row = session.scalars(
        select(Job)
        .where(Job.id == job, Job.state == "blocked")
        .with_for_update(key_share=True, skip_locked=skip_locked)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        return
    awaited = session.execute(
        select(Job.id, Job.state).join(Wait, Wait.awaited == Job.id).where(Wait.job == job)
    ).all()
    in_vain = [each.id for each in awaited if each.state in IN_VAIN]
    if in_vain:
        first = session.get_one(Job, min(in_vain), populate_existing=True)
        end(tx, bell, job, "failed", dependency_failed(session, first).problem)
    elif all(each.state == "succeeded" for each in awaited):
        queue = row.queue
        move(session, job, "queued")
        tx.after_commit(lambda: bell.ring(queue))
