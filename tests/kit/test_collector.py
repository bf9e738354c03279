"""Orphans on the real object store: what is taken, what is left, what an interruption does."""

import threading
from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

import pytest
from minio.error import S3Error
from sqlalchemy import text

from services.kit import collector as module
from services.kit.collector import Collector, Tally
from services.kit.db import Tx, new_id
from services.kit.jobs import Lease, NewJob
from services.kit.jobs.pairing import NAMEPLATE, Pairing
from services.kit.objects import MARKER, Listed, ObjectStore
from tests.kit.test_worker import until

OLD = -3600.0
"""A grace before which every object is old: the store's clock cannot be turned."""
LONG = 3600.0


MANY = 1000
"""What a person says who has looked: in these stores most objects are leftovers."""


@pytest.fixture
def empty_store(settings) -> Callable[[], ObjectStore]:
    """Make a bucket of its own."""
    return lambda: ObjectStore(
        settings.s3_endpoint,
        settings.s3_access_key.get_secret_value(),
        settings.s3_secret_key.get_secret_value(),
        f"collect-{uuid4().hex[:12]}",
    )


@pytest.fixture
def store(adapters, empty_store) -> ObjectStore:
    """An empty bucket that belongs to the database."""
    store = empty_store()
    Pairing(adapters.db, store).adopt()
    return store


class Rows:
    """What a service names, and how it was asked."""

    def __init__(self) -> None:
        self.named: set[str] = set()
        self.asked: list[int] = []

    def __call__(self, tx: Tx, resource: UUID, keys: Sequence[str]) -> set[str]:
        assert all(str(resource) in key for key in keys)
        self.asked.append(len(keys))
        return self.named & set(keys)


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def collector(adapters, store, rows) -> Callable[..., Collector]:
    def make(grace_s: float = OLD, every_s: float = LONG) -> Collector:
        named = {"things": rows}
        return Collector(adapters.db, store, named, grace_s=grace_s, every_s=every_s)

    return make


def key(resource: UUID, name: str, folder: str = "things") -> str:
    return f"projects/{UUID(int=1)}/{folder}/{resource}/{name}"


def test_orphans_are_taken_and_what_is_named_is_kept(collector, store, rows) -> None:
    thing, other = uuid4(), uuid4()
    rows.named = {key(thing, "images/0001"), key(other, "weights")}
    orphans = {key(thing, "images/0002"), key(uuid4(), "weights")}
    for each in rows.named | orphans:
        store.put(each, b"x")
    tally = collector().collect(most=MANY)
    assert (tally.seen, tally.removed, tally.unclaimed) == (4, 2, 0)
    assert set(store.keys("projects/")) == rows.named


def test_what_is_young_by_the_stores_clock_is_kept(collector, store) -> None:
    orphan = key(uuid4(), "just put")
    store.put(orphan, b"x")
    assert collector(grace_s=LONG).collect().removed == 0
    assert store.exists(orphan)
    assert collector().collect().removed == 1


def test_nobodys_folders_are_left_alone(collector, store, rows) -> None:
    left = [
        "elsewhere/file",
        "projects/readme",
        f"projects/{uuid4()}/things/file",
        f"projects/{uuid4()}/things/not-an-id/file",
        key(uuid4(), "file", folder="unheard-of"),
    ]
    for each in left:
        store.put(each, b"x")
    tally = collector().collect()
    assert (tally.seen, tally.removed, tally.unclaimed) == (4, 0, 4)
    assert set(store.keys("")) == {*left, MARKER, NAMEPLATE}
    assert rows.asked == []


def test_a_crash_between_put_and_row_leaves_an_orphan_that_is_collected_later(
    adapters, collector, store, rows, ada, work
) -> None:
    """While the job lives nothing of its resource is taken: it may commit at any time."""
    thing = new_id()
    with adapters.db.transaction() as tx:
        job = NewJob("stub", "make", "stub", ada.caller, thing, {}, [{}])
        adapters.jobs.submit(tx, job)

    def crashes(lease: Lease) -> None:
        store.put(key(thing, "first"), b"x")
        raise RuntimeError("before the row")

    def finishes(lease: Lease) -> None:
        store.put(key(thing, "second"), b"x")
        assert collector().collect().removed == 0
        with lease.finishing():
            rows.named.add(key(thing, "second"))

    work("stub", "stub", {"make": crashes}, 1)
    assert collector().collect().removed == 0
    with adapters.db.transaction() as tx:
        due = text("UPDATE jobs.slices SET not_before = now() WHERE state = 'queued'")
        tx.session.execute(due)
    work("stub", "stub", {"make": finishes}, 1)
    assert collector().collect().removed == 1
    assert list(store.keys("projects/")) == [key(thing, "second")]


def test_bytes_put_again_while_it_looks_are_kept(collector, store, monkeypatch) -> None:
    """Somebody whose first attempt left the same object puts it again: it is young now."""
    orphan = key(uuid4(), "again")
    store.put(orphan, b"x")
    walk = collector(grace_s=0.0)
    listed = Listed(orphan, store.now().replace(year=2000))
    at = store.changed(orphan)
    monkeypatch.setattr(store, "listing", lambda _: iter([listed]))
    monkeypatch.setattr(store, "now", lambda: at)
    assert walk.collect().removed == 0
    assert store.exists(orphan)


def test_an_interrupted_walk_does_no_harm(collector, store, rows, monkeypatch) -> None:
    monkeypatch.setattr(module, "PAGE", 10)
    things = sorted(uuid4() for _ in range(4))
    keys = [key(thing, f"{n:03d}") for thing in things for n in range(10)]
    rows.named = set(keys[::2])
    for each in keys:
        store.put(each, b"x")
    ending = threading.Event()
    ending.set()
    assert collector().collect(ending, MANY).removed == 0
    assert len(list(store.keys("projects/"))) == 40
    assert collector().collect(most=MANY).removed == 20
    assert set(store.keys("projects/")) == rows.named


def test_it_walks_again_and_survives_a_store_that_fails(
    collector, store, rows, monkeypatch
) -> None:
    orphan = key(uuid4(), "orphan")
    store.put(orphan, b"x")
    ending, failed = threading.Event(), threading.Event()
    listing = store.listing

    def fails_once(prefix: str):
        if not failed.is_set():
            failed.set()
            raise S3Error(None, "InternalError", "", "", "", "")
        return listing(prefix)

    monkeypatch.setattr(store, "listing", fails_once)
    thread = threading.Thread(target=collector(every_s=0.01).run, args=(ending,))
    thread.start()
    try:
        until(lambda: not store.exists(orphan))
        store.put(orphan, b"x")
        until(lambda: not store.exists(orphan))
    finally:
        ending.set()
        thread.join()
    assert failed.is_set()


def test_rows_are_asked_for_a_page_at_most(collector, store, rows, monkeypatch) -> None:
    """What bounds the memory of a walk, however many objects there are."""
    monkeypatch.setattr(module, "PAGE", 7)
    thing = uuid4()
    keys = [key(thing, f"{n:03d}") for n in range(50)]
    rows.named = set(keys)
    for each in keys:
        store.put(each, b"x")
    tally = collector().collect()
    assert (tally.seen, tally.removed) == (50, 0)
    assert rows.asked == [7] * 7 + [1]


def test_a_round_removes_one_in_a_hundred_at_most_unless_told(
    collector, store, rows, monkeypatch
) -> None:
    """More than a few leftovers are no leftovers: the rows are gone."""
    thing = uuid4()
    keys = [key(thing, f"{n:03d}") for n in range(200)]
    for each in keys:
        store.put(each, b"x")
    rows.named = set(keys[3:])
    tally = collector().collect()
    assert (tally.seen, tally.unnamed, tally.allowed, tally.removed) == (200, 3, 2, 0)
    rows.named = set(keys[2:])
    assert collector().collect().removed == 2
    rows.named = set()
    assert collector().collect().removed == 0
    assert collector().collect(most=197).removed == 0
    assert set(store.keys("projects/")) == set(keys[2:])
    assert collector().collect(most=198).removed == 198


def test_a_round_removes_a_thousand_at_most() -> None:
    assert [Tally(seen=seen).allowed for seen in (0, 1, 99, 100, 8_034, 100_000, 10**7)] == [
        *(1, 1, 1, 1, 80, 1000, 1000)
    ]


def test_what_a_row_names_by_the_time_it_is_removed_is_kept(
    collector, store, rows, monkeypatch
) -> None:
    """A row may be written while the walk goes on over the rest of the store."""
    late = key(uuid4(), "late")
    store.put(late, b"x")
    walk = collector()
    look = walk._look

    def looks(horizon, keep, ending):
        found = look(horizon, keep, ending)
        rows.named.add(late)
        return found

    monkeypatch.setattr(walk, "_look", looks)
    assert walk.collect().removed == 0
    assert store.exists(late)
