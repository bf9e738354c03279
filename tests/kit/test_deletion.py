"""Deletion as jobs: what is asked, what goes first, what is interrupted; on the real servers."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from api_schemas.base import DeletionView, JobState
from services.kit import deletion
from services.kit.db import new_id
from services.kit.deletion import Delete, Deletions, HasDerivedData, Kept, ResourceUnknown
from services.kit.errors import Unprocessable
from services.kit.jobs import Jobs, Lease, NewJob, lineage
from services.kit.jobs.ledger import NotCancellable
from services.kit.jobs.lineage import DELETE, Made, SourceDeleted

KINDS = ("egg", "cake", "crumb")


def folder(project: UUID, resource: UUID) -> str:
    return f"projects/{project}/things/{resource}/"


@pytest.fixture
def rows() -> set[UUID]:
    """The rows of a service."""
    return set()


@pytest.fixture
def handler(adapters, rows) -> Delete:
    kept = Kept(folder, lambda _, resource: rows.discard(resource))
    return Delete(adapters.erasure, dict.fromkeys(KINDS, kept))


@pytest.fixture
def make(adapters, ada, rows) -> Callable[..., UUID]:
    """A resource with objects, a row and the job that makes it."""

    def put(kind: str, *uses: UUID, objects: int = 2) -> UUID:
        made = new_id()
        with adapters.db.transaction() as tx:
            thing = Made("stub", "stub", kind, made, f"a {kind}")
            lineage.note(tx, ada.caller, thing, dict.fromkeys(uses, "uses"))
            job = NewJob("stub", "make", "stub", ada.caller, made, {}, [{}, {}])
            adapters.jobs.submit(tx, job)
        for n in range(objects):
            adapters.store.put(f"{folder(ada.caller.project, made)}{n}", b"x")
        rows.add(made)
        return made

    return put


@pytest.fixture
def drop(adapters, ada) -> Callable[..., DeletionView]:
    def delete(kind: str, resource: UUID, *, derived: bool = True) -> DeletionView:
        deletions = Deletions(adapters.db, adapters.jobs, kind)
        return deletions.delete(ada.caller, resource, derived=derived)

    return delete


@pytest.fixture
def look(adapters, ada) -> Callable[..., DeletionView]:
    def see(kind: str, resource: UUID) -> DeletionView:
        return Deletions(adapters.db, adapters.jobs, kind).look(ada.caller, resource)

    return see


def objects(adapters, ada, *resources: UUID) -> list[str]:
    return [k for each in resources for k in adapters.store.keys(folder(ada.caller.project, each))]


def ids(view: DeletionView) -> list[UUID]:
    return [each.id for each in view.derived]


def test_what_was_made_from_it_is_told_and_must_be_meant(make, drop, look, adapters, ada) -> None:
    egg = make("egg")
    cake = make("cake", egg)
    crumb = make("crumb", cake)
    view = look("egg", egg)
    assert (view.resource.id, view.job, ids(view)) == (egg, None, [crumb, cake])
    with pytest.raises(HasDerivedData) as raised:
        drop("egg", egg, derived=False)
    problem = raised.value.problem.model_dump()
    assert (problem["status"], problem["accepted"]) == (409, "?derived=true")
    assert problem["counts"] == {"cake": 1, "crumb": 1}
    assert [each["id"] for each in problem["derived"]] == [str(crumb), str(cake)]
    assert look("egg", egg) == view
    assert len(objects(adapters, ada, egg, cake, crumb)) == 6


def test_what_was_made_goes_first_and_nothing_is_left(
    make, drop, look, work, handler, adapters, ada, rows
) -> None:
    egg, other = make("egg"), make("egg")
    cake = make("cake", egg)
    crumb = make("crumb", cake)
    order: list[UUID] = []

    def noted(lease: Lease) -> None:
        order.append(lease.resource)
        handler(lease)

    def makes_another(lease: Lease) -> None:
        assert lease.resource == other  # the work on the rest was cancelled
        with lease.finishing():
            pass

    view = drop("egg", egg)
    assert view.job is not None
    assert view.job.state is JobState.BLOCKED
    work("stub", "stub", {DELETE: noted, "make": makes_another})
    assert order == [crumb, cake, egg]
    assert rows == {other}
    assert objects(adapters, ada, egg, cake, crumb) == []
    assert len(objects(adapters, ada, other)) == 2
    done = look("egg", egg)
    assert done.derived == []
    assert done.job is not None
    assert (done.job.state, done.job.done, done.job.unit) == ("succeeded", 2, "objects")
    with pytest.raises(ResourceUnknown):
        drop("egg", egg)


def test_work_on_what_is_deleted_is_cancelled(make, drop, adapters, work, handler) -> None:
    egg = make("egg")
    cake = make("cake", egg)

    def cut_off(lease: Lease) -> None:
        drop("egg", egg)
        assert not lease.beat()
        lease.stop_now()

    assert work("stub", "stub", {"make": cut_off}, 1) == 1
    with adapters.db.transaction() as tx:
        states = tx.session.execute(
            text("SELECT resource, state FROM jobs.jobs WHERE kind = 'make'")
        )
        assert {row.resource: row.state for row in states} == {
            egg: "cancelled",
            cake: "cancelled",
        }


def test_two_deletions_of_one_thing_are_one_job(make, drop) -> None:
    egg = make("egg")
    make("cake", egg)
    first = drop("egg", egg)
    assert drop("egg", egg) == first
    assert drop("egg", egg, derived=False) == first  # it has been said already


def test_a_deletion_under_way_is_waited_for(make, drop, look, work, handler) -> None:
    egg = make("egg")
    cake = make("cake", egg)
    cakes = drop("cake", cake)
    eggs = drop("egg", egg, derived=False)  # nothing that still stands was made from it
    assert eggs.job.waits_for == [cakes.job.id]
    assert look("cake", cake).job.id == cakes.job.id
    work("stub", "stub", {DELETE: handler})
    assert look("egg", egg).job.state is JobState.SUCCEEDED


def test_a_long_deletion_goes_in_slices_and_resumes(
    make, drop, look, work, handler, adapters, ada, monkeypatch, rows
) -> None:
    monkeypatch.setattr(deletion, "SLICE_OBJECTS", 4)
    monkeypatch.setattr(deletion, "REMOVED_AT_ONCE", 2)
    egg = make("egg", objects=10)
    drop("egg", egg)
    assert work("stub", "stub", {DELETE: handler}, 1) == 1
    assert len(objects(adapters, ada, egg)) == 6
    assert egg in rows

    def dies(lease: Lease) -> None:
        lease.finishing = _die
        handler(lease)

    assert work("stub", "stub", {DELETE: dies}, 1) == 1
    assert len(objects(adapters, ada, egg)) == 2
    assert egg in rows
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE jobs.slices SET not_before = now() WHERE state = 'queued'"))
    work("stub", "stub", {DELETE: handler})
    assert objects(adapters, ada, egg) == []
    assert egg not in rows
    assert look("egg", egg).job.state is JobState.SUCCEEDED


def _die(more: object = ()) -> None:
    raise RuntimeError(more)


def test_a_deletion_that_did_not_succeed_is_asked_for_again(
    make, drop, look, work, handler, adapters
) -> None:
    egg = make("egg")
    cake = make("cake", egg)
    first = drop("egg", egg)

    def fails(lease: Lease) -> None:
        raise Unprocessable("the store returned nonsense")

    work("stub", "stub", {DELETE: fails})
    assert look("cake", cake).job.state is JobState.FAILED
    assert look("egg", egg).job.state is JobState.FAILED  # it waited in vain
    again = drop("egg", egg, derived=False)
    assert again.job.id != first.job.id
    work("stub", "stub", {DELETE: handler})
    assert look("egg", egg).job.state is JobState.SUCCEEDED
    assert look("cake", cake).job.state is JobState.SUCCEEDED


def test_a_deletion_is_not_cancelled(make, drop, look, adapters) -> None:
    egg = make("egg")
    drop("egg", egg)
    with adapters.db.transaction() as tx, pytest.raises(NotCancellable):
        adapters.jobs.cancel(tx, look("egg", egg).job.id)


def test_a_deletion_that_crashed_too_often_is_retried(
    make, drop, look, work, handler, adapters
) -> None:
    egg = make("egg")
    cake = make("cake", egg)
    first = drop("egg", egg)

    def crashes(lease: Lease) -> None:
        raise RuntimeError("the store is mad")

    for _ in range(3):
        work("stub", "stub", {DELETE: crashes})
        with adapters.db.transaction() as tx:
            tx.session.execute(
                text("UPDATE jobs.slices SET not_before = now() WHERE state = 'queued'")
            )
    assert look("cake", cake).job.state is JobState.QUARANTINED
    assert look("egg", egg).job.state is JobState.BLOCKED
    assert drop("egg", egg).job == first.job
    work("stub", "stub", {DELETE: handler})
    assert look("egg", egg).job.state is JobState.SUCCEEDED


def test_quarantined_work_on_what_is_deleted_is_not_retried(make, drop, work, adapters) -> None:
    egg = make("egg")

    def crashes(lease: Lease) -> None:
        raise RuntimeError("again")

    for _ in range(3):
        work("stub", "stub", {"make": crashes}, 1)
        with adapters.db.transaction() as tx:
            tx.session.execute(
                text("UPDATE jobs.slices SET not_before = now() WHERE state = 'queued'")
            )
    with adapters.db.transaction() as tx:
        (job,) = tx.session.scalars(text("SELECT id FROM jobs.jobs WHERE state = 'quarantined'"))
    drop("egg", egg)
    with adapters.db.transaction() as tx, pytest.raises(SourceDeleted):
        adapters.jobs.retry(tx, job)


def test_nobody_has_too_much_work_to_delete(make, ada, adapters, look) -> None:
    egg = make("egg")
    busy = Deletions(adapters.db, Jobs(adapters.bell, queued_cap=0), "egg")
    busy.delete(ada.caller, egg, derived=False)
    assert look("egg", egg).job.state is JobState.QUEUED


def test_things_of_others_and_of_other_kinds_are_unknown(make, adapters, stranger, drop) -> None:
    egg = make("egg")
    eggs = Deletions(adapters.db, adapters.jobs, "egg")
    for ask in (
        lambda: eggs.look(stranger.caller, egg),
        lambda: eggs.delete(stranger.caller, egg, derived=True),
        lambda: drop("cake", egg),
        lambda: drop("egg", uuid4()),
    ):
        with pytest.raises(ResourceUnknown):
            ask()
