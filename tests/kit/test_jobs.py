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
from services.kit.jobs import Jobs, Lease, LeaseLost, NewJob, Released, lineage
from services.kit.jobs.endings import DependencyFailed
from services.kit.jobs.fairness import Ask
from services.kit.jobs.leases import claim
from services.kit.jobs.ledger import JobFinished, NotQuarantined, QueueFull
from services.kit.jobs.lineage import Made
from services.kit.jobs.models import Job
from services.kit.jobs.sweeper import Sweeper
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
    ask = Ask("stub", "stub", "a worker", running_cap=4)
    return lambda: claim(adapters.db, adapters.bell, ask, Event())


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


class Clock:
    """A monotonic clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(adapters: Adapters, clock: Clock) -> Callable[[float], None]:
    """Let seconds pass, as the sweeper sees them, and sweep: `watch(20)`; leases last 60 s."""
    sweeper = Sweeper(adapters.db, adapters.bell, 60, clock)

    def pass_by(seconds: float) -> None:
        clock.now += seconds
        sweeper.sweep()

    return pass_by


def test_writes_after_the_lease_was_lost_are_refused(adapters, submit, take, watch) -> None:
    submit(1)
    zombie = take()
    for _ in range(5):
        watch(20)
    second = take()
    assert second is not None
    with pytest.raises(LeaseLost), zombie.finishing() as tx:
        tx.session.execute(text("UPDATE jobs.jobs SET message = 'written by a zombie'"))
    assert not zombie.beat()
    finish(second)
    with adapters.db.transaction() as tx:
        assert tx.session.scalar(text("SELECT message FROM jobs.jobs")) == ""


def test_a_holder_that_beats_keeps_its_lease(submit, take, watch) -> None:
    submit(1)
    lease = take()
    for _ in range(20):
        watch(50)
        assert lease.beat()
    assert take() is None


def test_a_holder_that_is_heard_by_nobody_stops_by_its_own_clock(submit, take) -> None:
    submit(1)
    lease = take()
    lease.last_beat -= 59
    assert not lease.should_stop()
    lease.last_beat -= 2
    assert lease.should_stop()
    with pytest.raises(LeaseLost):
        lease.stop_now()


def test_after_a_blackout_holders_get_their_time_again(submit, take, watch) -> None:
    """The sweeper could not look for an hour; nor, perhaps, could they beat."""
    submit(1)
    lease = take()
    watch(1)
    watch(3600)
    assert lease.beat()


def test_a_slice_put_off_by_another_clock_is_not_stranded(adapters, submit, take, watch) -> None:
    submit(1)
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE jobs.slices SET not_before = now() + interval '1 hour'"))
    assert take() is None
    watch(1)
    assert take() is not None


def test_three_losses_quarantine_and_retry_forgives(adapters, submit, take, watch, look) -> None:
    job = submit(2)
    waiting = submit(1, waits_for=[job])
    for _ in range(3):
        assert take() is not None
        for _ in range(5):
            watch(20)
    assert look(job).state is JobState.QUARANTINED
    assert look(waiting).state is JobState.BLOCKED
    assert take() is None
    with adapters.db.transaction() as tx:
        assert adapters.jobs.retry(tx, job).state is JobState.QUEUED
        with pytest.raises(NotQuarantined):
            adapters.jobs.retry(tx, job)
    finish(take())
    finish(take())
    assert look(job).state is JobState.SUCCEEDED
    assert look(waiting).state is JobState.QUEUED
    with adapters.db.transaction() as tx:
        attempts = adapters.jobs.attempts(tx, job)
    assert [a.outcome for a in attempts] == ["lost", "lost", "lost", "done", "done"]
    assert attempts[0].reason == "its worker was not heard of for 60 s"


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
    assert look(second).problem.detail == "Stub has failed: bad"
    assert look(third).problem.detail == "Stub has failed: Stub has failed: bad"
    with pytest.raises(DependencyFailed) as refused:
        submit(1, waits_for=[first])
    assert refused.value.problem.detail == "Stub has failed: bad"


def test_a_failed_dependency_is_called_by_its_name(adapters, ada, submit, look) -> None:
    first = submit(1)
    second = submit(1, waits_for=[first])
    with adapters.db.transaction() as tx:
        resource = tx.session.get_one(Job, first).resource
        made = Made("generation", "stub", "generation", resource, "three of each")
        lineage.note(tx, ada.caller, made)
    with adapters.db.transaction() as tx:
        adapters.jobs.cancel(tx, first)
    problem = look(second).problem
    assert problem.type == "urn:synthorax:problem:dependency-failed"
    assert problem.detail == "Cohort 'three of each' was cancelled"
    assert problem.model_extra == {"resource": str(resource), "job": str(first)}


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
        "UPDATE jobs.slices SET crashes = 0",
        (
            "INSERT INTO jobs.slices (job, ordinal, payload, state, lease) "
            "SELECT id, 99, '{}', 'running', id FROM jobs.jobs"
        ),
        (
            "INSERT INTO jobs.jobs (id, service, kind, queue, owner, project, resource, inputs,"
            " state, finished_at) SELECT resource, service, kind, queue, owner, project, id, inputs"
            ", 'succeeded', now() FROM jobs.jobs"
        ),
    ],
)
def test_the_database_refuses_to_rewrite_history(adapters, submit, work, statement) -> None:
    submit(1)
    work("stub", "stub", {"stub": finish})
    with pytest.raises(DBAPIError), adapters.db.transaction() as tx:
        tx.session.execute(text(statement))


def test_a_persons_queue_has_an_end(adapters, ada, enrol, look) -> None:
    jobs = Jobs(adapters.bell, queued_cap=2)

    def post(member: Member) -> UUID:
        with adapters.db.transaction() as tx:
            return jobs.submit(tx, new_job(member))

    first, _ = post(ada), post(ada)
    with pytest.raises(QueueFull) as refused:
        post(ada)
    assert refused.value.problem.status == 429
    post(enrol("bob"))
    with adapters.db.transaction() as tx:
        jobs.cancel(tx, first)
    assert look(post(ada)).state is JobState.QUEUED


def test_a_note_is_told_in_its_order(adapters, submit, take) -> None:
    job = submit(1)
    lease = take()
    lease.progress(1, 2, "steps")
    lease.beat()
    lease.note("the checkpoint of step 1 was damaged")
    finish(lease)
    with adapters.db.transaction() as tx:
        events = adapters.jobs.events(tx, {job: 0})[job]
    assert [e.kind for e in events] == ["state", "state", "progress", "note", "state"]
    assert events[3].message == "the checkpoint of step 1 was damaged"
    with pytest.raises(LeaseLost):
        lease.note("written after the end")


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
