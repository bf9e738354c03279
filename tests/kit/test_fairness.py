"""Whose turn it is: shares by weight, caps, priority, warm models, and who waits for whom."""

from collections import Counter
from threading import Event
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from api_schemas.jobs import ShareRequest
from services.kit.jobs import NewJob, shares
from services.kit.jobs.fairness import Ask, Choice
from services.kit.jobs.leases import Lease, claim
from services.kit.jobs.presence import Presence
from services.kit.jobs.queue import view
from services.kit.jobs.slices import leave

QUEUE = "stub"


@pytest.fixture
def submit(adapters):
    def put(member, slices: int = 1, queue: str = QUEUE) -> UUID:
        payloads = [{"n": n} for n in range(slices)]
        job = NewJob("stub", "stub", queue, member.caller, uuid4(), {}, payloads)
        with adapters.db.transaction() as tx:
            return adapters.jobs.submit(tx, job)

    return put


@pytest.fixture
def take(adapters):
    def claimed(warm: UUID | None = None, cap: int = 100, queue: str = QUEUE) -> Lease | None:
        ask = Ask(queue, "stub", "a worker", running_cap=cap)
        return claim(adapters.db, adapters.bell, ask, Event(), Choice(warm))

    return claimed


@pytest.fixture
def spend(adapters):
    """End a slice as if it had taken so many seconds."""

    def end(lease: Lease, seconds: float) -> None:
        with adapters.db.transaction() as tx:
            leave(tx.session, lease._held, "done", "", seconds=seconds)

    return end


def weigh(adapters, member, **share: object) -> None:
    with adapters.db.transaction() as tx:
        shares.grant(tx, member.caller.person, ShareRequest.model_validate(share))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_shares_follow_weights_under_saturation(
    adapters, enrol, submit, take, spend, workers
) -> None:
    """Seconds, not slices: ada's take three times as long as bob's, carol's a third."""
    members = {name: enrol(name) for name in ("ada", "bob", "carol")}
    lengths = {"ada": 3.0, "bob": 1.0, "carol": 1 / 3}
    names = {m.caller.person: name for name, m in members.items()}
    weigh(adapters, members["ada"], weight=2)
    for member in members.values():
        submit(member, 400)
    seconds: Counter[str] = Counter()
    busy: list[tuple[float, int, Lease]] = []
    now = 0.0
    for n in range(150):
        while len(busy) < workers:
            lease = take()
            busy.append((now + lengths[names[lease.caller.person]], n, lease))
        busy.sort(key=lambda each: each[:2])
        now, _, lease = busy.pop(0)
        name = names[lease.caller.person]
        spend(lease, lengths[name])
        seconds[name] += lengths[name]
    shares_ = {name: seconds[name] / sum(seconds.values()) for name in members}
    assert shares_ == pytest.approx({"ada": 0.5, "bob": 0.25, "carol": 0.25}, abs=0.05)


def test_a_newcomer_is_next(enrol, submit, take, spend) -> None:
    ada, bob = enrol("ada"), enrol("bob")
    submit(ada, 50)
    for _ in range(5):
        spend(take(), 60)
    submit(bob, 1)
    assert take().caller.person == bob.caller.person


def test_what_was_used_is_forgotten_by_half_in_a_day(adapters, enrol, submit, take, spend) -> None:
    ada = enrol("ada")
    submit(ada, 2)
    spend(take(), 1000)
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE jobs.usage SET as_of = as_of - interval '1 day'"))
    with adapters.db.transaction() as tx:
        assert shares.view(tx, ada.caller.person).used_s[QUEUE] == pytest.approx(500, rel=1e-3)
    spend(take(), 100)
    with adapters.db.transaction() as tx:
        assert shares.view(tx, ada.caller.person).used_s[QUEUE] == pytest.approx(600, rel=1e-3)


def test_seconds_on_one_device_count_for_both_its_queues(enrol, submit, take, spend) -> None:
    ada, bob = enrol("ada"), enrol("bob")
    submit(ada, 1, "training")
    spend(take(queue="training"), 60)
    submit(ada, 1, "generation")
    submit(bob, 1, "generation")
    assert take(queue="generation").caller.person == bob.caller.person


def test_caps_hold_and_can_be_a_persons_own(adapters, enrol, submit, take) -> None:
    ada, bob = enrol("ada"), enrol("bob")
    submit(ada, 10)
    submit(ada, 10)
    weigh(adapters, bob, running_cap=1)
    submit(bob, 10)
    owners = Counter()
    while (lease := take(cap=3)) is not None:
        owners[lease.caller.person] += 1
    assert owners == {ada.caller.person: 3, bob.caller.person: 1}


def test_priority_goes_before_fairness_and_warmth_after_it(
    adapters, enrol, submit, take, spend
) -> None:
    ada, bob = enrol("ada"), enrol("bob")
    first, second = submit(ada, 5), submit(ada, 5)
    assert take().job == first
    lease = take(warm=second)
    assert lease.job == second
    spend(lease, 600)
    bobs = submit(bob, 5)
    assert take(warm=second).job == bobs
    with adapters.db.transaction() as tx:
        adapters.jobs.prioritise(tx, second, 1)
    assert take(warm=first).job == second


def test_a_long_slice_pauses_when_others_wait(enrol, submit, take, monkeypatch) -> None:
    ada, bob = enrol("ada"), enrol("bob")
    submit(ada, 2, "training")
    lease = take(queue="training")
    lease.beat()
    lease.began -= 3600
    assert not lease.should_pause()
    submit(bob, 1, "generation")
    lease.beat()
    assert lease.should_pause()
    lease.began += 3600
    assert not lease.should_pause()
    assert not lease.should_stop()


def test_the_queue_shows_places_and_no_secrets(adapters, enrol, submit, take, spend) -> None:
    ada, bob = enrol("ada"), enrol("bob")
    job, other = submit(ada, 3), submit(bob, 4)
    spend(take(), 30)
    Presence(adapters.db, Ask(QUEUE, "stub", "a worker", running_cap=4)).announce()
    with adapters.db.transaction() as tx:
        mine = view(tx, ada.caller, QUEUE, 4)
        theirs = view(tx, bob.caller, QUEUE, 4)
    assert mine.workers == 1
    assert [(p.yours, p.job, p.kind) for p in mine.places] == [
        (False, None, None),
        (True, job, "stub"),
    ]
    assert [p.job for p in theirs.places] == [other, None]
    assert [p.waiting for p in mine.places] == [4, 2]
    assert [p.starts_in_s for p in mine.places] == [0, None]  # of no such job is known how long
    assert [p.ends_in_s for p in mine.places] == [None, None]
