"""Jobs and slices against the real database: claims, fences, waits, cancel, crashes."""

from collections.abc import Callable
from threading import Event
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from api_schemas.base import JobState, JobView
from services.kit.adapters import Adapters
from services.kit.bell import Bell
from services.kit.errors import Unavailable, Unprocessable
from services.kit.jobs import Jobs, Lease, LeaseLost, NewJob, Released
from services.kit.jobs.leases import Claim, claim
from services.kit.jobs.ledger import DependencyFailed, JobFinished
from tests.conftest import Member


def new_job(member: Member, slices: int = 1, **more: object) -> NewJob:
    return NewJob(
        service="stub",
        kind="stub",
        queue="stub",
        caller=member.caller,
        resource=uuid4(),
        inputs={"answer": 42},
        slices=[{"n": n} for n in range(slices)],
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture
def submit(adapters: Adapters, ada: Member) -> Callable[..., UUID]:
    def put(slices: int = 1, member: Member = ada, **more: object) -> UUID:
        with adapters.db.transaction() as tx:
            return adapters.jobs.submit(tx, new_job(member, slices, **more))

    return put


@pytest.fixture
def look(adapters: Adapters) -> Callable[[UUID], JobView]:
    def view(job: UUID) -> JobView:
        with adapters.db.transaction() as tx:
            return adapters.jobs.view(tx, job)

    return view


@pytest.fixture
def take(adapters: Adapters) -> Callable[[], Lease | None]:
    ask = Claim("stub", "stub", "a worker", lease_s=60, owner_cap=4)
    return lambda: claim(adapters.db, adapters.bell, ask, None, Event())


def finish(lease: Lease) -> None:
    with lease.finishing():
        pass


def test_slices_run_once_and_in_order(submit, look, work) -> None:
    job = submit(5)
    seen: list[int] = []

    def handler(lease: Lease) -> None:
        seen.append(lease.payload["n"])
        lease.progress(len(seen), 5, "things")
        finish(lease)

    assert work("stub", "stub", {"stub": handler}) == 5
    assert seen == [0, 1, 2, 3, 4]
    view = look(job)
    assert (view.state, view.done, view.total) == (JobState.SUCCEEDED, 5, 5)


def test_what_comes_last_follows_the_last_of_all_slices_once(submit, look, take) -> None:
    job = submit(3)
    leases = [take() for _ in range(3)]

    def finish_and_ask(lease: Lease) -> None:
        with lease.finishing(last=[{"n": "last"}]):
            pass

    for lease in leases[:2]:
        finish_and_ask(lease)
        assert take() is None
    finish_and_ask(leases[2])
    last = take()
    assert last.payload == {"n": "last"}
    assert look(job).state is JobState.RUNNING
    finish(last)
    assert look(job).state is JobState.SUCCEEDED


def test_a_slice_may_append_more(submit, look, work) -> None:
    job = submit(1)
    ran: list[dict] = []

    def handler(lease: Lease) -> None:
        ran.append(lease.payload)
        more = [{"n": 10}, {"n": 11}] if lease.payload["n"] == 0 else []
        with lease.finishing(more):
            pass

    work("stub", "stub", {"stub": handler})
    assert [p["n"] for p in ran] == [0, 10, 11]
    assert look(job).state is JobState.SUCCEEDED


def test_a_lease_excludes_a_second_worker(submit, take) -> None:
    submit(1)
    assert take() is not None
    assert take() is None


def test_writes_after_the_lease_expired_are_refused(adapters, submit, take, sweep) -> None:
    submit(1)
    zombie = take()
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE jobs.slices SET leased_until = now() - interval '1 s'"))
    sweep()
    second = take()
    assert second is not None
    with pytest.raises(LeaseLost), zombie.finishing() as tx:
        tx.session.execute(text("UPDATE jobs.jobs SET message = 'written by a zombie'"))
    assert not zombie.beat()
    finish(second)
    with adapters.db.transaction() as tx:
        assert tx.session.scalar(text("SELECT message FROM jobs.jobs")) == ""


def test_three_crashes_quarantine(adapters, submit, look, work) -> None:
    job, other = submit(1), submit(1)
    attempts: list[UUID] = []

    def handler(lease: Lease) -> None:
        if lease.job == job:
            attempts.append(lease.job)
            raise RuntimeError("boom")
        finish(lease)

    for _ in range(4):
        work("stub", "stub", {"stub": handler})
        with adapters.db.transaction() as tx:
            tx.session.execute(
                text("UPDATE jobs.slices SET not_before = now() WHERE state = 'queued'")
            )
    assert len(attempts) == 3
    assert look(job).state is JobState.QUARANTINED
    assert look(other).state is JobState.SUCCEEDED


def test_a_problem_fails_the_job_at_once(submit, look, work) -> None:
    job = submit(3)

    def handler(lease: Lease) -> None:
        raise Unprocessable("no usable row", field="path")

    assert work("stub", "stub", {"stub": handler}) == 1
    view = look(job)
    assert view.state is JobState.FAILED
    assert view.problem is not None
    assert view.problem.field == "path"


def test_a_released_slice_runs_again_uncounted(adapters, submit, look, work) -> None:
    job = submit(1)
    attempts: list[int] = []

    def handler(lease: Lease) -> None:
        attempts.append(lease.attempt)
        if lease.attempt < 6:
            raise Released
        finish(lease)

    work("stub", "stub", {"stub": handler})
    assert attempts == [1, 2, 3, 4, 5, 6]
    assert look(job).state is JobState.SUCCEEDED


def test_a_server_that_is_away_counts_no_failure(adapters, submit, look, work) -> None:
    job = submit(1)

    def handler(lease: Lease) -> None:
        if lease.attempt < 5:
            raise Unavailable("away")
        finish(lease)

    for _ in range(5):
        work("stub", "stub", {"stub": handler})
        with adapters.db.transaction() as tx:
            tx.session.execute(
                text("UPDATE jobs.slices SET not_before = now() WHERE state = 'queued'")
            )
    assert look(job).state is JobState.SUCCEEDED


def test_blocked_until_all_it_waits_for_succeed(submit, look, work) -> None:
    first, second = submit(1), submit(1)
    blocked = submit(1, waits_for=[first, second])
    assert look(blocked).state is JobState.BLOCKED
    assert set(look(blocked).waits_for) == {first, second}
    order: list[UUID] = []

    def handler(lease: Lease) -> None:
        order.append(lease.job)
        finish(lease)

    work("stub", "stub", {"stub": handler})
    assert order == [first, second, blocked]


def test_a_failed_dependency_fails_the_whole_chain(submit, look, work) -> None:
    first = submit(1)
    second = submit(1, waits_for=[first])
    third = submit(1, waits_for=[second])

    def handler(lease: Lease) -> None:
        raise Unprocessable("bad")

    work("stub", "stub", {"stub": handler})
    assert [look(j).state for j in (first, second, third)] == [JobState.FAILED] * 3
    with pytest.raises(DependencyFailed):
        submit(1, waits_for=[first])


def test_cancel_takes_the_slice_from_its_worker(adapters, submit, look, take) -> None:
    job = submit(2)
    lease = take()
    with adapters.db.transaction() as tx:
        assert adapters.jobs.cancel(tx, job).state is JobState.CANCELLED
        assert adapters.jobs.cancel(tx, job).state is JobState.CANCELLED
    assert not lease.beat()
    assert lease.should_stop()
    with pytest.raises(LeaseLost), lease.finishing():
        pass
    assert take() is None
    assert look(job).state is JobState.CANCELLED


def test_a_finished_job_cannot_be_cancelled(adapters, submit, work) -> None:
    job = submit(1)
    work("stub", "stub", {"stub": finish})
    with adapters.db.transaction() as tx, pytest.raises(JobFinished):
        adapters.jobs.cancel(tx, job)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs.jobs SET state = 'queued', finished_at = NULL",
        "UPDATE jobs.jobs SET message = 'history rewritten'",
        "UPDATE jobs.jobs SET inputs = '{}'",
        "UPDATE jobs.slices SET state = 'queued'",
        "UPDATE jobs.slices SET payload = '{}'",
    ],
)
def test_the_database_refuses_to_rewrite_history(adapters, submit, work, statement) -> None:
    submit(1)
    work("stub", "stub", {"stub": finish})
    with pytest.raises(DBAPIError), adapters.db.transaction() as tx:
        tx.session.execute(text(statement))


def test_owners_take_turns(enrol, submit, work) -> None:
    ada, bob = enrol("ada"), enrol("bob")
    submit(6, member=ada)
    submit(1, member=bob)
    order: list[UUID] = []

    def handler(lease: Lease) -> None:
        order.append(lease.caller.person)
        finish(lease)

    work("stub", "stub", {"stub": handler})
    assert bob.caller.person in order[:2]


def test_the_sweeper_rings_for_forgotten_work(adapters, submit, sweep) -> None:
    submit(1)
    adapters.bell._redis.delete("stub")
    assert adapters.bell.pending("stub") == 0
    sweep()
    assert adapters.bell.pending("stub") == 1
    sweep()
    assert adapters.bell.pending("stub") == 1


def test_a_broker_that_is_away_does_not_stop_a_submission(adapters, ada, look) -> None:
    jobs = Jobs(Bell("redis://127.0.0.1:1/0"))
    with adapters.db.transaction() as tx:
        job = jobs.submit(tx, new_job(ada))
    assert look(job).state is JobState.QUEUED
