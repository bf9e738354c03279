"""How long work takes and when its turn comes: the model against the ledger, and against what
came of simulated weeks of recorded slices.
"""

import random
from statistics import mean
from threading import Event
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.estimates import STRETCH_S, Installation, share_within
from services.kit.jobs import NewJob
from services.kit.jobs.fairness import Ask
from services.kit.jobs.forecast import (
    Owner,
    Past,
    Reached,
    Work,
    expected_s,
    forecast,
    remaining_s,
)
from services.kit.jobs.leases import claim
from services.kit.jobs.slices import leave

ADA, BOB, CAROL = (uuid4() for _ in range(3))
OWNERS = {ADA: Owner(), BOB: Owner(), CAROL: Owner()}


def test_a_training_in_progress_is_estimated_by_its_own_steps() -> None:
    """1,980 of 2,000 steps to go at 0.1 s each; ten minutes went by before the first."""
    reached = Reached(done=20, total=2000, seconds=602, unit_s=0.1)
    assert remaining_s(reached, [Past(2000, 50)]) == pytest.approx(198)


def test_one_that_is_set_aside_is_estimated_by_all_its_slices() -> None:
    assert remaining_s(Reached(500, 2000, 100), []) == pytest.approx(300)


def test_one_that_has_not_begun_is_estimated_by_those_of_its_size() -> None:
    past = [
        Past(1, 2.0),
        Past(1, 2.2),
        Past(4, 2.4),
        Past(1000, 100),
        Past(900, 95),
        Past(1100, 99),
    ]
    assert expected_s(1, past) == pytest.approx(2.0, rel=0.2)
    assert expected_s(1000, past) == pytest.approx(100, rel=0.2)
    assert expected_s(1000, []) is None


def test_what_nobody_knows_is_not_made_up() -> None:
    found = forecast([Work("cpu", ADA, None)], OWNERS, {"cpu": 1}, 1)
    assert (found[0].starts_in_s, found[0].ends_in_s) == (0, None)


def test_where_no_worker_is_up_nothing_begins() -> None:
    found = forecast([Work("cpu", ADA, 5.0)], OWNERS, {"cpu": 0}, 0)
    assert (found[0].starts_in_s, found[0].ends_in_s) == (None, None)


def test_what_is_ahead_on_the_device_counts_though_it_is_in_another_queue() -> None:
    training = Work("training", BOB, 3600.0, running=1, elapsed_s=20.0)
    order = Work("generation", ADA, 2.2, short=True)
    workers = {"training": 1, "generation": 1}
    later = forecast([training, order], OWNERS, workers, 1)
    assert later[1].starts_in_s == pytest.approx(40)
    assert later[1].ends_in_s == pytest.approx(42.2)
    assert later[0].ends_in_s == pytest.approx(3582, rel=0.05)
    at_once = forecast([training, order], OWNERS, workers, 2)
    assert at_once[1].ends_in_s == pytest.approx(2.2)


def test_who_used_less_goes_first_until_both_used_as_much() -> None:
    works = [Work("cpu", ADA, 100.0, parts=100), Work("cpu", BOB, 100.0, parts=100)]
    owners = {ADA: Owner(load=50.0), BOB: Owner()}
    ends = [each.ends_in_s for each in forecast(works, owners, {"cpu": 1}, 1)]
    assert ends[1] == pytest.approx(150, rel=0.1)
    assert ends[0] == pytest.approx(200, rel=0.05)


works = st.lists(
    st.builds(
        Work,
        queue=st.sampled_from(["generation", "training"]),
        owner=st.sampled_from([ADA, BOB, CAROL]),
        seconds=st.floats(1, 100_000),
        parts=st.integers(1, 50),
        priority=st.integers(-2, 2),
        short=st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@given(works, st.integers(1, 3))
def test_an_estimate_does_all_work_and_none_twice(jobs: list[Work], devices: int) -> None:
    found = forecast(jobs, OWNERS, {"generation": 3, "training": 3}, devices)
    total = sum(job.seconds or 0 for job in jobs)
    longest = max(job.seconds or 0 for job in jobs)
    last = max(each.ends_in_s or 0 for each in found)
    assert total / devices <= last * 1.001
    assert last <= total / devices + longest + 1
    assert all(0 <= (e.starts_in_s or 0) <= (e.ends_in_s or 0) for e in found)


def test_what_is_too_little_for_a_slice_is_done_in_the_last_one() -> None:
    thirteenths = Work("cpu", ADA, 3.0, parts=13)
    fourteenths = Work("cpu", ADA, 3.0, parts=14)
    found = forecast([thirteenths, fourteenths], {ADA: Owner()}, {"cpu": 1}, 1)
    assert max(each.ends_in_s or 0 for each in found) == pytest.approx(6)


@pytest.mark.parametrize("seed", range(5))
def test_the_model_serves_in_the_order_of_the_ledger(adapters, enrol, seed) -> None:
    """Random jobs of three people, one worker: who ends before whom is foreseen."""
    lot = random.Random(seed)
    members = [enrol(name) for name in ("ada", "bob", "carol")]
    jobs: list[UUID] = []
    ahead: list[Work] = []
    for _ in range(8):
        member, parts, short = lot.choice(members), lot.randint(1, 4), lot.random() < 0.3
        each_s = lot.choice([7.0, 11.0, 19.0])
        new = NewJob(
            *("stub", "stub", "stub", member.caller, uuid4(), {}),
            [{"s": each_s}] * parts,
            short=short,
        )
        with adapters.db.transaction() as tx:
            jobs.append(adapters.jobs.submit(tx, new))
        ahead.append(Work("stub", member.caller.person, each_s * parts, parts=parts, short=short))
    owners = {member.caller.person: Owner() for member in members}
    found = forecast(ahead, owners, {"stub": 1}, 1)
    order: list[UUID] = []
    ask = Ask("stub", "stub", "a worker", running_cap=4)
    while (lease := claim(adapters.db, adapters.bell, ask, Event())) is not None:
        with adapters.db.transaction() as tx:
            leave(tx.session, lease._held, "done", "", seconds=lease.payload["s"])
        order.append(lease.job)
    lasts = {job: max(i for i, each in enumerate(order) if each == job) for job in jobs}
    firsts = {job: order.index(job) for job in jobs}
    foreseen = sorted(range(8), key=lambda i: found[i].starts_in_s or 0)
    happened = sorted(range(8), key=lambda i: firsts[jobs[i]])
    agree = mean(a == b for a, b in zip(foreseen, happened, strict=True))
    assert agree >= 0.75, (foreseen, happened, lasts)


@pytest.mark.parametrize("seed", range(3))
def test_nine_estimates_of_ten_are_right_within_a_factor_of_two(seed) -> None:
    """A simulated week of an installation whose slices last as recorded ones did."""
    told = Installation(seed).run()
    assert len(told) > 100
    assert share_within(told, 2.0) >= 0.9


def test_a_small_order_beside_trainings_waits_for_one_stretch_at_most() -> None:
    """In a simulated day whose trainings have stretches of ten minutes."""
    lab = Installation(0)
    lab.run()
    small = [job for job in lab.ended if job.recorded.kind == "generate" and job.total == 1]
    assert len(small) > 5
    assert all(job.ended_at - job.ordered_at <= STRETCH_S + 10 for job in small)
