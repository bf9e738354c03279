"""Which resource was made from which, across all services: what a deletion must follow.

A resource is whatever a service keeps under an id. Its service notes it when it makes it, with
what it makes it from. Knows ids and names; not what a service keeps under them.

A lock per project stands between the two things that must not cross: whoever notes a resource
shares it, whoever deletes holds it alone. So nothing is derived from what is being deleted, and
a deletion sees everything that was.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, insert, select, text, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from api_schemas.base import JobState
from services.kit.auth import Caller
from services.kit.db import Tx
from services.kit.errors import NotFound
from services.kit.jobs.models import Job, Resource, Use, Wait

IDS_AT_ONCE = 10_000
DELETE = "delete"
"""Kind of the jobs that delete."""


class SourceDeleted(NotFound):
    slug = "source-deleted"
    title = "What this would be made from has been deleted"


class SourceUnknown(NotFound):
    slug = "source-unknown"
    title = "There is no such thing to make this from"


@dataclass(frozen=True)
class Made:
    """A resource to note. Workers of `service` that hear `queue` delete it one day."""

    service: str
    queue: str
    kind: str
    id: UUID
    name: str = ""


@dataclass(frozen=True)
class Kin:
    """A resource as it stands: `state`, `done` and `unit` are those of the job that makes it.

    `users` were made from it directly.
    """

    id: UUID
    service: str
    queue: str
    kind: str
    name: str
    deletion: UUID | None
    deletion_state: JobState | None
    state: JobState | None
    done: float
    unit: str
    users: list[UUID]


class Unfinished(NamedTuple):
    """A job that has not ended."""

    id: UUID
    kind: str
    resource: UUID


def note(tx: Tx, caller: Caller, made: Made, uses: Mapping[UUID, str] | None = None) -> None:
    """Write down a resource in the transaction that makes it.

    `uses` maps what it is made from to the field of the request that names it. Raises
    `SourceDeleted` (404) for what is being deleted. Call it late: what asks another service
    afterwards could wait for a deletion that waits for this transaction.
    """
    share(tx.session, caller.project)
    tx.session.execute(insert(Resource).values(project=caller.project, **vars(made)))
    note_uses(tx, caller, made.id, uses or {})


def note_uses(tx: Tx, caller: Caller, resource: UUID, uses: Mapping[UUID, str]) -> None:
    """Write down what else a resource was made from, as `note` does. Raises `SourceDeleted`."""
    session = tx.session
    share(session, caller.project)
    gone = session.scalars(
        select(Resource.id)
        .where(Resource.id.in_(uses), Resource.project == caller.project)
        .where(Resource.deletion.is_not(None))
    ).first()
    if gone is not None:
        raise SourceDeleted("It is being deleted", field=uses[gone])
    if uses:
        session.execute(insert(Use), [{"resource": resource, "uses": each} for each in uses])


def require(session: Session, caller: Caller, resource: UUID, field: str) -> None:
    """Raises `SourceUnknown` (404) for what is no resource of the caller's project: for an id that
    a request only states, and that no service is asked for.
    """
    found = select(Resource.id).where(Resource.id == resource, Resource.project == caller.project)
    if session.scalar(found) is None:
        raise SourceUnknown("It does not exist, or is not yours", field=field)


def share(session: Session, project: UUID) -> None:
    """Until the transaction ends, nothing of the project is deleted. For whoever adds to what a
    resource keeps: a row, a job.
    """
    session.execute(_SHARE, {"key": _lock_key(project)})


def hold(session: Session, project: UUID) -> None:
    """Until the transaction ends, nobody notes or deletes a resource of the project."""
    session.execute(_HOLD, {"key": _lock_key(project)})


def family(session: Session, project: UUID, resource: UUID) -> list[Kin]:
    """A resource and all that was made from it, each behind everything made from it.

    The resource itself comes last; nothing comes when the project has no such resource.
    """
    rows = session.execute(_FAMILY, {"id": resource, "project": project})
    return [_kin(**{str(name): value for name, value in row.items()}) for row in rows.mappings()]


def _kin(state: str | None, deletion_state: str | None, **row: Any) -> Kin:
    return Kin(**row, state=_state(state), deletion_state=_state(deletion_state))


def _state(name: str | None) -> JobState | None:
    return None if name is None else JobState(name)


def visible(column: InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    """The condition that the resource whose id is in `column` is not deleted or being deleted."""
    return ~exists().where(Resource.id == column, Resource.deletion.is_not(None))


def ended_early(column: InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    """The condition that the job whose id is in `column` has failed or was cancelled, for good."""
    return exists().where(Job.id == column, Job.state.in_(("failed", "cancelled")))


def is_deleted(session: Session, resource: UUID) -> bool:
    return session.scalar(select(Resource.deletion).where(Resource.id == resource)) is not None


def deleted(session: Session, resource: UUID) -> Resource | None:
    """The resource where it is deleted or being deleted; its `deletion` is the job."""
    return session.scalars(
        select(Resource).where(Resource.id == resource, Resource.deletion.is_not(None))
    ).one_or_none()


def unfinished(session: Session, resources: Collection[UUID]) -> list[Unfinished]:
    """The jobs of these resources that have not ended, the oldest first."""
    query = select(Job.id, Job.kind, Job.resource).order_by(Job.id)
    rows = session.execute(query.where(Job.resource.in_(resources), Job.finished_at.is_(None)))
    return [Unfinished(*row) for row in rows]


def count_kinds(session: Session) -> Counter[str]:
    """How many resources of each kind there are, in all projects, but for what is deleted."""
    query = select(Resource.kind, func.count()).where(Resource.deletion.is_(None))
    rows = session.execute(query.group_by(Resource.kind))
    return Counter(dict(rows.tuples().all()))


def is_awaited(session: Session, job: UUID) -> bool:
    """Whether a job that has not ended waits for `job`."""
    waiting = select(Wait.job).join(Job, Job.id == Wait.job)
    query = waiting.where(Wait.awaited == job, Job.finished_at.is_(None)).limit(1)
    return session.scalar(query) is not None


def mark_deleted(session: Session, resource: UUID, job: UUID) -> None:
    """From the commit on, readers find nothing; `job` takes away what is there."""
    session.execute(update(Resource).where(Resource.id == resource).values(deletion=job))


def standing(session: Session, resources: Collection[UUID]) -> set[UUID]:
    """Those of some resources that are neither deleted nor being deleted."""
    found: set[UUID] = set()
    ids = list(resources)
    for first in range(0, len(ids), IDS_AT_ONCE):
        part = ids[first : first + IDS_AT_ONCE]
        query = select(Resource.id).where(Resource.id.in_(part), Resource.deletion.is_(None))
        found.update(session.scalars(query))
    return found


def damaged(session: Session, resources: Collection[UUID]) -> set[UUID]:
    """Those of some resources that are damaged."""
    query = select(Resource.id).where(Resource.id.in_(resources), Resource.damaged_at.is_not(None))
    return set(session.scalars(query))


def note_damaged(session: Session, resource: UUID) -> None:
    """An object of the resource is missing, or is not what was put there."""
    mark = update(Resource).values(damaged_at=func.now())
    session.execute(
        mark.where(Resource.id == resource)
        .where(Resource.deletion.is_(None))
        .where(Resource.damaged_at.is_(None))
    )


def set_damaged(session: Session, resources: Collection[UUID]) -> None:
    """These resources are damaged and no others: somebody has looked at all of them."""
    whole = update(Resource).values(damaged_at=None).where(Resource.damaged_at.is_not(None))
    session.execute(whole.where(Resource.id.not_in(resources)))
    for resource in resources:
        note_damaged(session, resource)


def forget_uses(session: Session, resource: UUID) -> None:
    """A resource that is gone keeps nobody's deletion waiting."""
    session.execute(delete(Use).where(Use.resource == resource))


def _lock_key(project: UUID) -> str:
    return f"lineage:{project}"


_SHARE = text("SELECT pg_advisory_xact_lock_shared(hashtextextended(:key, 0))")
_HOLD = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")

_FAMILY = text("""
    WITH RECURSIVE reached (id, depth) AS (
        SELECT id, 0 FROM jobs.resources WHERE id = :id AND project = :project
        UNION
        SELECT u.resource, reached.depth + 1
        FROM reached
        JOIN jobs.uses u ON u.uses = reached.id
        JOIN jobs.resources r ON r.id = u.resource AND r.project = :project
    ), deepest AS (
        SELECT id, max(depth) AS depth FROM reached GROUP BY id
    )
    SELECT r.id, r.service, r.queue, r.kind, r.name, r.deletion, deletion.state AS deletion_state,
           maker.state, coalesce(maker.done, 0) AS done, coalesce(maker.unit, '') AS unit,
           ARRAY(SELECT u.resource FROM jobs.uses u WHERE u.uses = r.id) AS users
    FROM deepest
    JOIN jobs.resources r ON r.id = deepest.id
    LEFT JOIN jobs.jobs deletion ON deletion.id = r.deletion
    LEFT JOIN LATERAL (
        SELECT j.state, j.done, j.unit FROM jobs.jobs j
        WHERE j.resource = r.id AND j.kind <> 'delete' ORDER BY j.id DESC LIMIT 1
    ) maker ON true
    ORDER BY deepest.depth DESC, r.id
""")
