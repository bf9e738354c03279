"""What was made from what, against the real database."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from services.kit.db import new_id
from services.kit.deletion import Deletions, HasDerivedData
from services.kit.jobs import NewJob, lineage
from services.kit.jobs.lineage import Made, SourceDeleted
from tests.conftest import Member


@pytest.fixture
def make(adapters, ada) -> Callable[..., UUID]:
    """Note a resource, with the job that makes it: `make("cake", egg, flour)`."""

    def put(kind: str, *uses: UUID, member: Member = ada, waits_for=()) -> UUID:
        made = new_id()
        with adapters.db.transaction() as tx:
            lineage.note(
                tx,
                member.caller,
                Made("stub", "stub", kind, made, f"a {kind}"),
                {each: f"uses.{n}" for n, each in enumerate(uses)},
            )
            job = NewJob("stub", "make", "stub", member.caller, made, {}, [{}], waits_for)
            adapters.jobs.submit(tx, job)
        return made

    return put


@pytest.fixture
def family(adapters, ada):
    def look(resource: UUID, member: Member = ada):
        with adapters.db.transaction() as tx:
            return lineage.family(tx.session, member.caller.project, resource)

    return look


def test_everything_made_from_a_thing_comes_before_it(make, family) -> None:
    egg, flour = make("egg"), make("flour")
    dough = make("dough", egg, flour)
    cake = make("cake", dough, egg)  # two ways lead from the egg to the cake
    crumb = make("crumb", cake)
    make("bread", flour)
    assert [each.id for each in family(egg)] == [crumb, cake, dough, egg]
    assert [each.kind for each in family(dough)] == ["crumb", "cake", "dough"]
    assert set(family(egg)[-1].users) == {dough, cake}
    assert family(uuid4()) == []


def test_a_thing_stands_where_its_job_stands(adapters, make, family, work) -> None:
    def handler(lease) -> None:
        lease.progress(3, 3, "pieces")
        with lease.finishing():
            pass

    egg = make("egg")
    cake = make("cake", egg)
    assert {each.state for each in family(egg)} == {"queued"}
    work("stub", "stub", {"make": handler})
    assert [(e.id, e.name, e.state, e.done, e.unit) for e in family(egg)] == [
        (cake, "a cake", "succeeded", 3, "pieces"),
        (egg, "a egg", "succeeded", 3, "pieces"),
    ]


def test_what_others_made_is_not_ours(make, family, stranger) -> None:
    egg = make("egg")
    make("cake", egg, member=stranger)
    assert [each.id for each in family(egg)] == [egg]
    assert family(egg, member=stranger) == []


def test_nothing_is_made_from_what_is_deleted(adapters, make, ada) -> None:
    egg = make("egg")
    Deletions(adapters.db, adapters.jobs, "egg").delete(ada.caller, egg, derived=False)
    with pytest.raises(SourceDeleted) as raised:
        make("cake", make("flour"), egg)
    assert (raised.value.problem.status, raised.value.problem.field) == (404, "uses.1")


def test_a_deletion_and_what_is_made_meanwhile_never_cross(adapters, make, ada) -> None:
    """Whoever comes second sees the first: no cake is left without its egg."""
    deletions = Deletions(adapters.db, adapters.jobs, "egg")

    def bake(egg: UUID) -> bool:
        try:
            make("cake", egg)
        except SourceDeleted:
            return False
        return True

    def drop(egg: UUID) -> bool:
        try:
            deletions.delete(ada.caller, egg, derived=False)
        except HasDerivedData:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        tried = [(pool.submit(bake, egg), pool.submit(drop, egg)) for egg in _eggs(make, 40)]
        outcomes = [(baked.result(), dropped.result()) for baked, dropped in tried]
    assert {baked != dropped for baked, dropped in outcomes} == {True}
    with adapters.db.transaction() as tx:
        bereft = text(
            "SELECT count(*) FROM jobs.uses u JOIN jobs.resources cake ON cake.id = u.resource"
            " JOIN jobs.resources egg ON egg.id = u.uses"
            " WHERE cake.deletion IS NULL AND egg.deletion IS NOT NULL"
        )
        assert tx.session.scalar(bereft) == 0


def _eggs(make: Callable[..., UUID], count: int) -> list[UUID]:
    return [make("egg") for _ in range(count)]
