"""Deleting a resource and all that was made from it: what is asked, and what workers do about it.

One job a resource, run by a worker of the service that keeps it; the job of what was there first
waits for the jobs of what was made from it. Knows no noun of the domain.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from sqlalchemy.orm import Session

from api_schemas.base import DeletionView, JobState, ResourceView
from services.kit.auth import Caller
from services.kit.db import Database, Tx
from services.kit.erasure import COMPACT, Erasure
from services.kit.errors import Conflict, NotFound
from services.kit.jobs import Jobs, Lease, NewJob, Released, lineage, step_of
from services.kit.jobs.ledger import JobFinished
from services.kit.jobs.lineage import DELETE, Kin
from services.kit.jobs.pairing import require_pairing
from services.kit.jobs.runner import Handler

SLICE_OBJECTS = 20_000
REMOVED_AT_ONCE = 1000
BUSY_S = 2.0

DerivedQuery = Annotated[
    bool, Query(description="delete what was made from it too; without it that is a 409")
]


class ResourceUnknown(NotFound):
    pass


class HasDerivedData(Conflict):
    slug = "has-derived-data"
    title = "Other things were made from this"


# ---------------------------------------------------------------- what is asked


class Deletions:
    """The deletions of one kind of resource in a caller's project."""

    def __init__(self, db: Database, jobs: Jobs, kind: str) -> None:
        self._db = db
        self._jobs = jobs
        self._kind = kind

    def look(self, caller: Caller, resource: UUID) -> DeletionView:
        """What a deletion would take, or how far it is."""
        with self._db.transaction() as tx:
            return self._view(tx, self._family(tx, caller, resource))

    def delete(self, caller: Caller, resource: UUID, *, derived: bool) -> DeletionView:
        """Take it from its readers at once, and queue the jobs that remove it.

        While it is being deleted this answers the same job. Jobs of it that crashed too often
        are retried; those that failed get a successor. Raises
        `HasDerivedData` (409) unless `derived`, and `StoreMismatch` (503) while the store may not
        be this database's.
        """
        with self._db.transaction() as tx:
            require_pairing(tx.session)
            lineage.hold(tx.session, caller.project)
            family = self._family(tx, caller, resource)
            *made, itself = family
            if itself.deletion_state is JobState.SUCCEEDED:
                raise self._unknown()
            self._check(made, derived=derived)
            self._cancel_work(tx, family)
            self._submit(tx, caller, family)
            return self._view(tx, self._family(tx, caller, resource))

    def _family(self, tx: Tx, caller: Caller, resource: UUID) -> list[Kin]:
        found = lineage.family(tx.session, caller.project, resource)
        if not found or found[-1].kind != self._kind:
            raise self._unknown()
        return found

    def _unknown(self) -> ResourceUnknown:
        return ResourceUnknown(f"There is no such {self._kind}")

    def _check(self, made: Sequence[Kin], *, derived: bool) -> None:
        standing = [each for each in made if each.deletion is None]
        if standing and not derived:
            counts = Counter(each.kind for each in standing)
            told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
            raise HasDerivedData(
                f"Made from this {self._kind}: {told}",
                field="derived",
                accepted="?derived=true",
                counts=dict(counts),
                derived=[_resource_view(each).model_dump(mode="json") for each in standing],
            )

    def _cancel_work(self, tx: Tx, family: Sequence[Kin]) -> None:
        """Oldest first, as whoever ends a job and then settles those that wait for it."""
        for job in lineage.unfinished(tx.session, [each.id for each in family]):
            if job.kind != DELETE:
                with suppress(JobFinished):  # it waited for the one before
                    self._jobs.cancel(tx, job.id)

    def _submit(self, tx: Tx, caller: Caller, family: Sequence[Kin]) -> None:
        jobs: dict[UUID, UUID] = {}
        for each in family:
            if each.deletion is not None and each.deletion_state is not JobState.FAILED:
                jobs[each.id] = each.deletion
                if each.deletion_state is JobState.QUARANTINED:
                    self._jobs.retry(tx, each.deletion)
                continue
            jobs[each.id] = self._jobs.submit(
                tx,
                NewJob(
                    service=each.service,
                    kind=DELETE,
                    queue=each.queue,
                    caller=caller,
                    resource=each.id,
                    inputs={"kind": each.kind},
                    slices=[{"removed": 0}],
                    short=True,
                    waits_for=[jobs[user] for user in each.users if user in jobs],
                    unit="objects",
                ),
            )
            lineage.mark_deleted(tx.session, each.id, jobs[each.id])

    def _view(self, tx: Tx, family: Sequence[Kin]) -> DeletionView:
        *made, itself = family
        return DeletionView(
            resource=_resource_view(itself),
            derived=[_resource_view(each) for each in made],
            job=None if itself.deletion is None else self._jobs.view(tx, itself.deletion),
        )


def _resource_view(each: Kin) -> ResourceView:
    return ResourceView(
        service=each.service,
        kind=each.kind,
        id=each.id,
        name=each.name,
        state=each.state,
        done=each.done,
        unit=each.unit,
    )


# ---------------------------------------------------------------- what workers do


@dataclass(frozen=True)
class Kept:
    """What a service keeps of one kind of resource: a folder of objects, and rows.

    `folder` is told project and resource; `forget` removes the rows.
    """

    folder: Callable[[UUID, UUID], str]
    forget: Callable[[Session, UUID], None]


@dataclass(frozen=True)
class Delete:
    """Handler of `delete`: objects first, some thousands a slice, then rows, then the bytes that
    the store keeps of objects that are gone.

    `kept` is by kind. `tidy` removes the copies on this machine's disk; by then no reader finds
    the resource. What a worker that was cut off puts too late is an orphan, and the collector's.
    """

    erasure: Erasure
    kept: Mapping[str, Kept]
    tidy: Callable[[], None] = lambda: None

    def __call__(self, lease: Lease) -> None:
        if "step" in lease.payload:
            step_of(lease, COMPACT)
            self.erasure.compact()
            with lease.finishing():
                pass
            return
        self.erasure.check()
        self._await_work(lease)
        kept = self.kept[lease.inputs["kind"]]
        folder = kept.folder(lease.caller.project, lease.resource)
        removed = self._remove_some(lease, folder)
        if next(self.erasure.keys(folder), None) is not None:
            with lease.finishing([{"removed": removed}]):
                pass
            return
        self.tidy()
        last: list[dict[str, Any]] = []
        with lease.finishing(last=last) as tx:
            kept.forget(tx.session, lease.resource)
            lineage.forget_uses(tx.session, lease.resource)
            if not lineage.is_awaited(tx.session, lease.job):  # else that deletion compacts for all
                last += self.erasure.last

    def _await_work(self, lease: Lease) -> None:
        """Work on it was cancelled; what is just being written comes to its end first."""
        with lease.writing() as tx:
            jobs = lineage.unfinished(tx.session, [lease.resource])
        if any(job.kind != DELETE for job in jobs):
            raise Released("work on it has yet to end", BUSY_S)

    def _remove_some(self, lease: Lease, folder: str) -> int:
        """Remove a slice's worth of objects; answers how many the job has removed so far."""
        removed: int = lease.payload["removed"]
        keys = islice(self.erasure.keys(folder), SLICE_OBJECTS)
        while part := list(islice(keys, REMOVED_AT_ONCE)):
            lease.stop_now()
            self.erasure.remove(part)
            removed += len(part)
            lease.progress(removed, 0, "objects")
        return removed


def tidying(tidy: Callable[[], None], handler: Handler) -> Handler:
    """`handler`, which first tidies this machine's disk: a deletion runs on one machine only."""

    def handle(lease: Lease) -> None:
        tidy()
        handler(lease)

    return handle
