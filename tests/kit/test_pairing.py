"""Row 58: a database and an object store that do not belong together. Nothing is removed."""

from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from services.kit.adapters import Adapters
from services.kit.collector import Collector
from services.kit.db import new_id
from services.kit.deletion import Delete, Deletions, Kept
from services.kit.erasure import Erasure
from services.kit.jobs import lineage
from services.kit.jobs.faults import StoreMismatch
from services.kit.jobs.lineage import DELETE, Made
from services.kit.jobs.pairing import NAMEPLATE, Nameplate, Pairing
from services.kit.objects import ObjectStore

OLD = -3600.0


@pytest.fixture
def store(settings) -> ObjectStore:
    """A bucket that nobody has used yet."""
    return ObjectStore(
        settings.s3_endpoint,
        settings.s3_access_key.get_secret_value(),
        settings.s3_secret_key.get_secret_value(),
        f"pairing-{uuid4().hex[:12]}",
    )


@pytest.fixture
def new_database(adapters: Adapters) -> Iterator[Callable[[], None]]:
    """Make the database one that has never seen a store."""

    def forget() -> None:
        with adapters.db.transaction() as tx:
            tx.session.execute(text("DELETE FROM jobs.installation"))

    forget()
    yield forget
    forget()


@pytest.fixture
def make(adapters, ada) -> Callable[[ObjectStore], UUID]:
    """A resource with a row and 60 objects, 30 of which rows name."""

    def put(store: ObjectStore, objects: int = 60) -> UUID:
        thing = new_id()
        with adapters.db.transaction() as tx:
            lineage.note(tx, ada.caller, Made("stub", "stub", "thing", thing, "a thing"))
        for n in range(objects):
            store.put(f"{folder(ada.caller.project, thing)}{n:03d}", b"x")
        return thing

    return put


def folder(project: UUID, resource: UUID) -> str:
    return f"projects/{project}/things/{resource}/"


def collector(adapters: Adapters, store: ObjectStore, *, named: bool = True) -> Collector:
    return Collector(
        adapters.db,
        store,
        {"things": lambda _tx, _resource, keys: set(keys) if named else set()},
        grace_s=OLD,
        every_s=3600.0,
    )


def objects(store: ObjectStore) -> int:
    return len(list(store.keys("projects/")))


def test_a_new_installation_pairs_by_itself(adapters, new_database, store) -> None:
    Pairing(adapters.db, store).check()
    assert store.exists(NAMEPLATE)
    Pairing(adapters.db, store).check()


def test_so_does_one_that_was_used_before_anybody_looked(
    adapters, new_database, store, make
) -> None:
    """An import may come before the control process has begun its first round."""
    make(store)
    collector(adapters, store).collect()
    assert objects(store) == 60
    assert store.exists(NAMEPLATE)


@pytest.mark.parametrize("nameplate", [True, False])
def test_row_58_a_new_database_beside_a_full_store(
    adapters, new_database, store, nameplate
) -> None:
    if nameplate:
        store.put(NAMEPLATE, Nameplate(uuid4(), 7).encode())
    for n in range(50):
        store.put(f"{folder(uuid4(), uuid4())}{n}", b"x")
    walks = collector(adapters, store, named=False)
    for _ in range(2):
        with pytest.raises(StoreMismatch, match="adopt"):
            walks.collect()
    with pytest.raises(StoreMismatch):
        walks.collect(most=1000)
    assert objects(store) == 50
    Pairing(adapters.db, store).adopt()
    tally = walks.collect()  # adopting is not removing
    assert (tally.seen, tally.unnamed, tally.removed, objects(store)) == (50, 50, 0, 50)
    assert walks.collect(most=50).removed == 50


def test_row_58_an_empty_store_beside_a_full_database(
    adapters, new_database, store, settings, make
) -> None:
    pairing = Pairing(adapters.db, store)
    pairing.check()
    make(store)
    store.remove_prefix("projects/")
    store.remove([NAMEPLATE])
    with pytest.raises(StoreMismatch, match="empty or another one"):
        collector(adapters, store).collect()
    pairing.adopt()
    assert collector(adapters, store).collect().removed == 0


def test_row_58_an_older_database_beside_a_newer_store(adapters, new_database, store, make) -> None:
    """As after a restored backup: rows of the last rounds are missing, their objects are not."""
    pairing = Pairing(adapters.db, store)
    walks = collector(adapters, store)
    for _ in range(3):
        walks.collect()
    make(store)
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE jobs.installation SET rounds = rounds - 1"))
    with pytest.raises(StoreMismatch, match="database is older"):
        collector(adapters, store, named=False).collect()
    assert objects(store) == 60
    pairing.adopt()
    walks.collect()


def test_row_58_an_older_store_beside_a_newer_database(adapters, new_database, store, make) -> None:
    pairing = Pairing(adapters.db, store)
    walks = collector(adapters, store)
    walks.collect()
    backup = store.get(NAMEPLATE)
    walks.collect()
    walks.collect()
    store.put(NAMEPLATE, backup)
    with pytest.raises(StoreMismatch, match="store is older"):
        walks.collect()
    pairing.adopt()
    walks.collect()


def test_a_crash_while_a_round_is_counted_is_no_mismatch(adapters, new_database, store) -> None:
    walks = collector(adapters, store)
    for _ in range(3):
        walks.collect()
        with adapters.db.transaction() as tx:
            tx.session.execute(text("UPDATE jobs.installation SET rounds = rounds + 1"))
    walks.collect()


def test_row_58_a_deletion_waits_until_they_agree(
    adapters, new_database, store, make, ada, work
) -> None:
    pairing = Pairing(adapters.db, store)
    pairing.check()
    thing, other = make(store, 5), make(store, 5)
    deletions = Deletions(adapters.db, adapters.jobs, "thing")
    deletions.delete(ada.caller, thing, derived=False)
    ours = store.get(NAMEPLATE)
    store.put(NAMEPLATE, Nameplate(uuid4(), 0).encode())
    kept = {"thing": Kept(folder, lambda _session, _resource: None)}
    handler = {DELETE: Delete(Erasure(store, pairing), kept)}
    work("stub", "stub", handler, 1)
    view = deletions.look(ada.caller, thing)
    assert view.job is not None
    with adapters.db.transaction() as tx:
        events = adapters.jobs.events(tx, {view.job.id: 0})[view.job.id]
    said = [event.message for event in events]
    assert "belongs to another installation" in said[-1]
    assert objects(store) == 10
    with pytest.raises(StoreMismatch) as refused:  # and nobody may ask for more
        deletions.delete(ada.caller, other, derived=False)
    assert refused.value.problem.status == 503

    store.put(NAMEPLATE, ours)
    pairing.check()
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE jobs.slices SET not_before = now() WHERE state = 'queued'"))
    work("stub", "stub", handler)
    assert deletions.look(ada.caller, thing).job.state == "succeeded"
    assert objects(store) == 5


def test_nothing_is_removed_by_hand_of_the_erasure_either(adapters, new_database, store) -> None:
    store.put(NAMEPLATE, Nameplate(uuid4(), 0).encode())
    store.put("projects/a/things/b", b"x")
    with pytest.raises(StoreMismatch):
        Erasure(store, Pairing(adapters.db, store)).remove(["projects/a/things/b"])
    assert objects(store) == 1
