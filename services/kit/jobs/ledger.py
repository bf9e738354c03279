"""What web processes do with jobs: submit, look, cancel, retry. Does not run anything."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from api_schemas.base import JobEvent, JobState, JobView, Problem
from api_schemas.jobs import AttemptView
from services.kit.auth import Caller
from services.kit.bell import Bell
from services.kit.db import Tx, new_id
from services.kit.errors import Conflict, NotFound, TooMany, Unavailable
from services.kit.failpoints import failpoint
from services.kit.jobs import lineage, moves, slices
from services.kit.jobs.endings import dependency_failed
from services.kit.jobs.lineage import DELETE, SourceDeleted
from services.kit.jobs.locks import RowBusy, brief_wait
from services.kit.jobs.models import Attempt, Cancellation, Job, Share, Slice, Wait
from services.kit.jobs.moves import IN_VAIN
from services.kit.jobs.waiting import reasons as waiting_for

QUEUED_CAP = 1000
"""Unfinished jobs that one person may have in one queue, unless their share says otherwise."""

RUNNING_CAP = 4
"""Slices of one person that run at a time in one queue, unless their share says otherwise."""

CANCEL_WAIT_MS = 300
CANCELLING = "will be cancelled when the step that is being written is done"

REFUSED = (*IN_VAIN, "quarantined")
"""States of a job for which no new job may wait."""

_EVENTS_AFTER = text("""
    SELECT e.* FROM unnest(CAST(:jobs AS uuid[]), CAST(:after AS bigint[])) AS asked (job, after)
    CROSS JOIN LATERAL (
        SELECT * FROM jobs.events WHERE events.job = asked.job AND events.id > asked.after
        ORDER BY events.id LIMIT :limit
    ) e ORDER BY e.id
""")
_LOCK_SUBMITTER = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")


class JobFinished(Conflict):
    slug = "job-finished"
    title = "The job has finished already"


class NotCancellable(Conflict):
    slug = "not-cancellable"
    title = "A deletion cannot be cancelled: its data is gone for readers already"


class NotQuarantined(Conflict):
    slug = "not-quarantined"
    title = "Only quarantined work can be retried"


class QueueFull(TooMany):
    slug = "queue-full"
    title = "You have as much unfinished work in this queue as one person may have"


class JobUnknown(NotFound):
    pass


class JobBusy(Unavailable):
    slug = "job-busy"
    title = "The job is being written to"


@dataclass(frozen=True)
class NewJob:
    """A job to be: `slices` are the payloads of its first slices, in order.

    `waits_for` names jobs that must succeed first; until then the job is blocked. A `short` job
    is expected to take less than a minute, and goes before long ones.
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
    short: bool = False
    id: UUID = field(default_factory=new_id)


class Jobs:
    """The ledger of jobs as web processes see it."""

    def __init__(
        self, bell: Bell, queued_cap: int = QUEUED_CAP, running_cap: int = RUNNING_CAP
    ) -> None:
        self._bell = bell
        self._queued_cap = queued_cap
        self._running_cap = running_cap

    def submit(self, tx: Tx, new: NewJob) -> UUID:
        """Write the job and its slices into the caller's transaction; ring once it commits.

        Raises `DependencyFailed` when a job in `waits_for` has already ended badly, and
        `QueueFull` (429) when its owner has too much unfinished work in the queue.
        """
        if new.kind != DELETE:  # nobody is too busy to delete
            self._check_cap(tx.session, new)
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
                short=new.short,
            )
        )
        slices.append(tx.session, new.id, new.slices)
        if new.waits_for:
            rows = [{"job": new.id, "awaited": a} for a in dict.fromkeys(new.waits_for)]
            tx.session.execute(insert(Wait), rows)
        moves.record(tx.session, new.id, "state")
        failpoint("after_submit")
        if state == "queued":
            tx.after_commit(lambda: self._bell.ring(new.queue))
        return new.id

    def _check_cap(self, session: Session, new: NewJob) -> None:
        owner = new.caller.person
        session.execute(_LOCK_SUBMITTER, {"key": f"submit:{new.queue}:{owner}"})
        own = session.scalar(select(Share.queued_cap).where(Share.owner == owner))
        cap = self._queued_cap if own is None else own
        unfinished = session.scalar(
            select(func.count()).where(
                Job.queue == new.queue, Job.owner == owner, Job.finished_at.is_(None)
            )
        )
        if (unfinished or 0) >= cap:
            raise QueueFull(
                f"{unfinished} jobs of yours are unfinished; wait for some, or cancel some",
                accepted=f"at most {cap} unfinished jobs in queue '{new.queue}'",
            )

    def _first_state(self, session: Session, waits_for: Sequence[UUID]) -> str:
        if not waits_for:
            return "queued"
        # The share lock makes a job that is just finishing wait for our commit. One that is being
        # written to is not waited for: should it end now, the sweeper settles ours.
        query = select(Job.id, Job.state).where(Job.id.in_(waits_for)).order_by(Job.id)
        session.execute(query.with_for_update(read=True, skip_locked=True))
        awaited = session.execute(query).all()
        refused = next((row.id for row in awaited if row.state in REFUSED), None)
        if refused is not None:
            raise dependency_failed(session, _row(session, refused))
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
        damaged = lineage.damaged(tx.session, {row.resource for row in rows})
        cancelling: set[UUID] = set()
        if unfinished := [r.id for r in rows if r.finished_at is None]:
            asked = select(Cancellation.job).where(Cancellation.job.in_(unfinished))
            cancelling |= {*tx.session.scalars(asked)}
        at_work = _at_work(tx.session, [r.id for r in rows if r.state == "running"])
        waiting = [r for r in rows if r.finished_at is None and r.id not in at_work]
        reasons = waiting_for(tx, waiting, self._running_cap) if waiting else {}
        return {
            row.id: _job_view(
                row,
                waits.get(row.id, []),
                damaged=row.resource in damaged,
                cancelling=row.id in cancelling,
                reason=reasons.get(row.id),
            )
            for row in rows
        }

    def find(self, tx: Tx, caller: Caller, job: UUID) -> JobView:
        """A job of the caller's project; raises `JobUnknown` (404) for any other."""
        mine = tx.session.scalar(select(Job.id).where(Job.id == job, Job.project == caller.project))
        if mine is None:
            raise JobUnknown("There is no such job")
        return self.view(tx, job)

    def cancel(self, tx: Tx, job: UUID) -> JobView:
        """Cancel; cancelled already is fine, finished raises `JobFinished` (409).

        A worker notices within one heartbeat: its slice is no longer its own. While somebody
        writes to the job, such as the plan of a large order, the view says `cancelling`: it is
        cancelled when that step has been written. A deletion raises `NotCancellable` (409).
        """
        try:
            with tx.session.begin_nested(), brief_wait(tx.session, CANCEL_WAIT_MS):
                if _is_cancellable(_row(tx.session, job, lock=True)):
                    moves.end(tx, self._bell, job, "cancelled")
        except RowBusy:
            if _is_cancellable(_row(tx.session, job)):
                request = upsert(Cancellation).values(job=job)
                tx.session.execute(request.on_conflict_do_nothing())
        return self.view(tx, job)

    def retry(self, tx: Tx, job: UUID) -> JobView:
        """Queue quarantined work again, its crashes forgiven; else `NotQuarantined` (409).

        Work on what is deleted stays where it is (`SourceDeleted`, 404).
        """
        row = _locked(tx.session, job)
        if row.state != "quarantined":
            raise NotQuarantined(f"The job is {row.state}", accepted="a quarantined job")
        if row.kind != DELETE and lineage.is_deleted(tx.session, row.resource):
            raise SourceDeleted("What it worked on is being deleted")
        queue = row.queue
        slices.forgive(tx.session, job)
        moves.move(tx.session, job, "queued", finished_at=None, problem=None)
        tx.after_commit(lambda: self._bell.ring(queue))
        return self.view(tx, job)

    def prioritise(self, tx: Tx, job: UUID, priority: int) -> JobView:
        """Let a job go before or after all others; an ended one raises `JobFinished` (409)."""
        row = _locked(tx.session, job)
        if row.finished_at is not None:
            raise JobFinished(f"The job has {row.state}")
        row.priority = priority
        tx.session.flush()
        return self.view(tx, job)

    def attempts(self, tx: Tx, job: UUID, limit: int = 1000) -> list[AttemptView]:
        """Who worked on a job, on what, and how each attempt ended; the newest `limit`."""
        rows = tx.session.execute(
            select(Attempt, Slice.ordinal)
            .join(Slice, Slice.id == Attempt.slice)
            .where(Attempt.job == job)
            .order_by(Attempt.started_at.desc(), Attempt.slice.desc(), Attempt.number.desc())
            .limit(limit)
        ).all()
        return [_attempt_view(row, ordinal) for row, ordinal in reversed(rows)]

    def events(
        self, tx: Tx, after: Mapping[UUID, int], limit: int = 200
    ) -> dict[UUID, list[JobEvent]]:
        """Of each job the first `limit` events after the event that is given for it, oldest
        first. Jobs without any are left out.
        """
        values = {"jobs": list(after), "after": list(after.values()), "limit": limit}
        found: dict[UUID, list[JobEvent]] = {}
        for row in tx.session.execute(_EVENTS_AFTER, values):
            found.setdefault(row.job, []).append(JobEvent.model_validate(row, from_attributes=True))
        return found

    def ended(self, tx: Tx, jobs: Iterable[UUID]) -> set[UUID]:
        """Those of the jobs that have ended."""
        ended = select(Job.id).where(Job.id.in_(list(jobs)), Job.finished_at.is_not(None))
        return set(tx.session.scalars(ended))

    def slice_states(self, tx: Tx, job: UUID) -> list[tuple[dict[str, Any], str]]:
        """Payload and state of every slice of a job, in order."""
        found = tx.session.execute(
            select(Slice.payload, Slice.state).where(Slice.job == job).order_by(Slice.ordinal)
        )
        return [(row.payload, row.state) for row in found]

    def terminal(self, tx: Tx, job: UUID) -> bool:
        return tx.session.scalar(select(Job.finished_at).where(Job.id == job)) is not None


def _locked(session: Session, job: UUID) -> Job:
    """The row, ours until the commit; raises `JobBusy` (503) when somebody holds it for long."""
    try:
        with brief_wait(session):
            return _row(session, job, lock=True)
    except RowBusy as error:
        raise JobBusy("A step of it is being written; ask again in a minute") from error


def _row(session: Session, job: UUID, *, lock: bool = False) -> Job:
    query = select(Job).where(Job.id == job).execution_options(populate_existing=True)
    if lock:
        query = query.with_for_update(key_share=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        raise JobUnknown("There is no such job")
    return row


def _is_cancellable(row: Job) -> bool:
    """False for one that is cancelled already; raises for any other that has ended."""
    if row.kind == DELETE:
        raise NotCancellable("Ask again for the deletion if it does not come to its end")
    if row.state == "cancelled":
        return False
    if row.finished_at is not None:
        raise JobFinished(f"The job has {row.state}; there is nothing left to cancel")
    return True


def _attempt_view(row: Attempt, ordinal: int) -> AttemptView:
    return AttemptView(
        slice=ordinal,
        number=row.number,
        worker=row.worker,
        about=row.about,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=row.outcome,  # pyright: ignore[reportArgumentType] - the table's check allows these
        reason=row.reason,
    )


def _at_work(session: Session, jobs: list[UUID]) -> set[UUID]:
    """Those of the jobs of which a slice is being worked on."""
    running = Slice.state == "running"
    return set(session.scalars(select(Slice.job).where(Slice.job.in_(jobs), running)))


def _job_view(
    row: Job, waits_for: list[UUID], *, damaged: bool, cancelling: bool, reason: str | None
) -> JobView:
    """`reason` says why nobody works on it now; one that has begun is queued again then."""
    set_aside = row.state == "running" and reason is not None
    message = row.message if reason is None else reason
    return JobView(
        id=row.id,
        kind=row.kind,
        state=JobState.QUEUED if set_aside else JobState(row.state),
        done=row.done,
        total=row.total,
        unit=row.unit,
        message=CANCELLING if cancelling else message,
        cancelling=cancelling,
        priority=row.priority,
        waits_for=waits_for,
        problem=None if row.problem is None else Problem.model_validate(row.problem),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        damaged=damaged,
    )
