"""What web processes do with jobs: submit, look, cancel. Does not run anything."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from sqlalchemy import CursorResult, insert, select, text, update
from sqlalchemy.orm import Session

from api_schemas.base import JobEvent, JobState, JobView, Problem
from services.kit.auth import Caller
from services.kit.bell import Bell
from services.kit.db import Tx, new_id
from services.kit.errors import Conflict, NotFound
from services.kit.failpoints import failpoint
from services.kit.jobs.models import NOW, Event, Job, Slice, Wait

_UNSUCCESSFUL = ("failed", "cancelled", "quarantined")


class JobFinished(Conflict):
    slug = "job-finished"
    title = "The job has finished already"


class DependencyFailed(Conflict):
    slug = "dependency-failed"
    title = "What this job waited for did not succeed"


@dataclass(frozen=True)
class NewJob:
    """A job to be: `slices` are the payloads of its first slices, in order.

    `waits_for` names jobs that must succeed first; until then the job is blocked.
    """

    service: str
    kind: str
    queue: str
    caller: Caller
    resource: UUID
    inputs: dict[str, Any]
    slices: Sequence[dict[str, Any]]
    waits_for: Sequence[UUID] = ()
    total: float = 0
    unit: str = ""
    id: UUID = field(default_factory=new_id)


class Jobs:
    """The ledger of jobs as web processes see it."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell

    def submit(self, tx: Tx, new: NewJob) -> UUID:
        """Write the job and its slices into the caller's transaction; ring once it commits.

        Raises `DependencyFailed` when a job in `waits_for` has already ended badly.
        """
        state = self._first_state(tx.session, new.waits_for)
        tx.session.execute(
            insert(Job).values(
                id=new.id,
                service=new.service,
                kind=new.kind,
                queue=new.queue,
                owner=new.caller.person,
                project=new.caller.project,
                resource=new.resource,
                inputs=new.inputs,
                state=state,
                total=new.total,
                unit=new.unit,
            )
        )
        append_slices(tx.session, new.id, new.slices)
        if new.waits_for:
            rows = [{"job": new.id, "awaited": a} for a in dict.fromkeys(new.waits_for)]
            tx.session.execute(insert(Wait), rows)
        record(tx.session, new.id, "state")
        failpoint("after_submit")
        if state == "queued":
            tx.after_commit(lambda: self._bell.ring(new.queue))
        return new.id

    def _first_state(self, session: Session, waits_for: Sequence[UUID]) -> str:
        if not waits_for:
            return "queued"
        # The share lock makes a job that is just finishing wait for our commit, or us for its.
        awaited = session.execute(
            select(Job.id, Job.state)
            .where(Job.id.in_(waits_for))
            .order_by(Job.id)
            .with_for_update(read=True)
        ).all()
        if any(row.state in _UNSUCCESSFUL for row in awaited):
            raise DependencyFailed("A dataset, generator or cohort named here did not succeed")
        return "queued" if all(row.state == "succeeded" for row in awaited) else "blocked"

    def view(self, tx: Tx, job: UUID) -> JobView:
        return self.views(tx, [job])[job]

    def views(self, tx: Tx, jobs: Iterable[UUID]) -> dict[UUID, JobView]:
        """The jobs as people see them, by id."""
        ids = list(jobs)
        rows = tx.session.scalars(
            select(Job).where(Job.id.in_(ids)).execution_options(populate_existing=True)
        ).all()
        waits: dict[UUID, list[UUID]] = {}
        blocked = [r.id for r in rows if r.state == "blocked"]
        if blocked:
            for wait in tx.session.scalars(select(Wait).where(Wait.job.in_(blocked))):
                waits.setdefault(wait.job, []).append(wait.awaited)
        return {row.id: _job_view(row, waits.get(row.id, [])) for row in rows}

    def cancel(self, tx: Tx, job: UUID) -> JobView:
        """Cancel; cancelled already is fine, finished raises `JobFinished` (409).

        A worker notices within one heartbeat: its slice is no longer its own.
        """
        row = tx.session.scalars(
            select(Job).where(Job.id == job).with_for_update(key_share=True)
        ).one_or_none()
        if row is None:
            raise NotFound("There is no such job")
        if row.state == "cancelled":
            return self.view(tx, job)
        if row.finished_at is not None:
            raise JobFinished(f"The job has {row.state}; there is nothing left to cancel")
        end_job(tx, self._bell, job, "cancelled")
        return self.view(tx, job)

    def events(self, tx: Tx, job: UUID, after: int, limit: int = 500) -> list[JobEvent]:
        """Events of a job with an id above `after`, oldest first."""
        rows = tx.session.scalars(
            select(Event).where(Event.job == job, Event.id > after).order_by(Event.id).limit(limit)
        )
        return [JobEvent.model_validate(row, from_attributes=True) for row in rows]

    def slice_states(self, tx: Tx, job: UUID) -> list[tuple[dict[str, Any], str]]:
        """Payload and state of every slice of a job, in order."""
        found = tx.session.execute(
            select(Slice.payload, Slice.state).where(Slice.job == job).order_by(Slice.ordinal)
        )
        return [(row.payload, row.state) for row in found]

    def terminal(self, tx: Tx, job: UUID) -> bool:
        return tx.session.scalar(select(Job.finished_at).where(Job.id == job)) is not None


def _job_view(row: Job, waits_for: list[UUID]) -> JobView:
    return JobView(
        id=row.id,
        kind=row.kind,
        state=JobState(row.state),
        done=row.done,
        total=row.total,
        unit=row.unit,
        message=row.message,
        waits_for=waits_for,
        problem=None if row.problem is None else Problem.model_validate(row.problem),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def append_slices(session: Session, job: UUID, payloads: Sequence[dict[str, Any]]) -> None:
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


_RECORD = text(
    "INSERT INTO jobs.events (job, kind, state, done, total, unit, message) "
    "SELECT id, :kind, state, done, total, unit, message FROM jobs.jobs WHERE id = :job"
)


def record(session: Session, job: UUID, kind: str) -> None:
    """Append the job's present standing to its events."""
    session.execute(_RECORD, {"job": job, "kind": kind})


def end_job(tx: Tx, bell: Bell, job: UUID, state: str, problem: Problem | None = None) -> None:
    """Move a job, whose row the caller has locked, to a terminal state; settle who waits for it."""
    session = tx.session
    session.execute(
        update(Job)
        .where(Job.id == job)
        .values(
            state=state,
            finished_at=NOW,
            problem=None if problem is None else problem.model_dump(mode="json"),
        )
        .execution_options(synchronize_session=False)
    )
    if state != "succeeded":
        session.execute(
            update(Slice)
            .where(Slice.job == job, Slice.state.in_(("queued", "running")))
            .values(state="cancelled", lease=None, finished_at=NOW)
            .execution_options(synchronize_session=False)
        )
    record(session, job, "state")
    waiting = session.scalars(select(Wait.job).where(Wait.awaited == job).order_by(Wait.job)).all()
    for dependent in waiting:
        settle(tx, bell, dependent)


def settle(tx: Tx, bell: Bell, job: UUID) -> None:
    """Queue a blocked job whose wait is over, or fail it when it waited in vain."""
    session = tx.session
    row = session.scalars(
        select(Job)
        .where(Job.id == job, Job.state == "blocked")
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        return
    states = session.scalars(
        select(Job.state).join(Wait, Wait.awaited == Job.id).where(Wait.job == job)
    ).all()
    if any(s in _UNSUCCESSFUL for s in states):
        problem = DependencyFailed("A dataset, generator or cohort it needs did not succeed")
        end_job(tx, bell, job, "failed", problem.problem)
    elif all(s == "succeeded" for s in states):
        queue = row.queue
        session.execute(
            update(Job)
            .where(Job.id == job)
            .values(state="queued")
            .execution_options(synchronize_session=False)
        )
        record(session, job, "state")
        tx.after_commit(lambda: bell.ring(queue))


def affected(session: Session, statement: Any, parameters: dict[str, Any]) -> int:
    """Run a statement and say how many rows it touched."""
    return cast("CursorResult[Any]", session.execute(statement, parameters)).rowcount
