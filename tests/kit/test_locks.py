"""Row 61: one job's row is locked for long. Everything else goes on as if it were not."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from services.kit.db import new_id
from services.kit.deletion import Delete, Deletions, Kept
from services.kit.jobs import Lease, NewJob, lineage
from services.kit.jobs.fairness import Ask
from services.kit.jobs.leases import claim
from services.kit.jobs.ledger import JobBusy, JobFinished
from services.kit.jobs.lineage import DELETE, Made
from services.kit.jobs.sweeper import Sweeper

ASK = Ask(queue="stub", service="stub", worker="here:1", running_cap=10)
WELL_UNDER_S = 60.0
"""The lock is held until the test lets go of it: what waited for it would wait for ever."""


@pytest.fixture
def submit(adapters, ada) -> Callable[..., UUID]:
    def make(caller=None, slices: int = 2, waits_for: tuple[UUID, ...] = ()) -> UUID:
        parts = [{"n": n} for n in range(slices)]
        who = (caller or ada).caller
        new = NewJob("stub", "make", "stub", who, uuid4(), {}, parts, waits_for=waits_for)
        with adapters.db.transaction() as tx:
            return adapters.jobs.submit(tx, new)

    return make


@pytest.fixture
def locked(adapters) -> Callable[..., object]:
    """Hold a job's row as a transaction of minutes does."""

    @contextmanager
    def hold(job: UUID, lock: str = "UPDATE") -> Iterator[None]:
        with adapters.db.engine.connect() as connection:
            query = f"SELECT 1 FROM jobs.jobs WHERE id = :job FOR {lock}"  # noqa: S608 - a constant
            connection.execute(text(query), {"job": job})
            yield
            connection.rollback()

    return hold


@pytest.fixture
def call(adapters) -> Callable[..., object]:
    """Call in a thread of its own; fails when it does not come back."""

    def run(what: Callable[[], object]) -> object:
        answers: list[object] = []
        thread = threading.Thread(target=lambda: answers.append(what()), daemon=True)
        thread.start()
        thread.join(WELL_UNDER_S)
        assert answers, "it waits for the lock"
        return answers[0]

    return run


@pytest.fixture
def planning(adapters) -> Callable[[UUID], object]:
    """A worker in the middle of writing a large plan; what it yields lets it come to the end."""

    @contextmanager
    def plan(job: UUID) -> Generator[Callable[[], None]]:
        lease = claim(adapters.db, adapters.bell, ASK, threading.Event())
        assert lease is not None
        assert lease.job == job
        writing, go_on = threading.Event(), threading.Event()

        def run() -> None:
            with lease.finishing([{"n": 10}, {"n": 11}]):
                writing.set()
                go_on.wait()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert writing.wait(WELL_UNDER_S)

        def write() -> None:
            go_on.set()
            thread.join(WELL_UNDER_S)
            assert not thread.is_alive()

        try:
            yield write
        finally:
            go_on.set()
            thread.join(WELL_UNDER_S)

    return plan


def state(adapters, job: UUID) -> str:
    with adapters.db.transaction() as tx:
        return adapters.jobs.view(tx, job).state


def cancel(adapters, job: UUID):
    with adapters.db.transaction() as tx:
        return adapters.jobs.cancel(tx, job)


def sweeper(adapters) -> tuple[Sweeper, list[float]]:
    """A sweeper, and the clock that it goes by."""
    now = [0.0]
    return Sweeper(adapters.db, adapters.bell, 60.0, lambda: now[0]), now


def test_row_61_cancel_answers_at_once_and_comes_when_the_plan_is_written(
    adapters, submit, planning, call
) -> None:
    job = submit(slices=1)
    with planning(job) as write:
        view = call(lambda: cancel(adapters, job))
        assert (view.state, view.cancelling) == ("running", True)
        assert "will be cancelled" in view.message
        assert call(lambda: cancel(adapters, job)).cancelling
        write()
    view = cancel(adapters, job)
    assert (view.state, view.cancelling) == ("cancelled", False)
    assert claim(adapters.db, adapters.bell, ASK, threading.Event()) is None


def test_a_last_step_that_is_written_in_spite_of_it_has_been_done(adapters, submit, call) -> None:
    job = submit(slices=1)
    lease = claim(adapters.db, adapters.bell, ASK, threading.Event())
    with lease.finishing():
        assert call(lambda: cancel(adapters, job)).cancelling
    assert state(adapters, job) == "succeeded"
    with pytest.raises(JobFinished):
        cancel(adapters, job)
    with adapters.db.transaction() as tx:
        assert tx.session.scalar(text("SELECT count(*) FROM jobs.cancellations")) == 0


def test_row_61_the_sweeper_cancels_what_nobody_writes_to_any_more(
    adapters, submit, locked, call
) -> None:
    job = submit()
    sweep, _ = sweeper(adapters)
    with locked(job):
        assert call(lambda: cancel(adapters, job)).cancelling
        call(lambda: sweep.sweep() or True)
        assert state(adapters, job) == "queued"
    sweep.sweep()
    assert state(adapters, job) == "cancelled"


def test_row_61_a_killed_workers_slice_comes_back_while_another_job_is_locked(
    adapters, submit, locked, call
) -> None:
    planned, other = submit(slices=1), submit(slices=1)
    leases = [claim(adapters.db, adapters.bell, ASK, threading.Event()) for _ in range(2)]
    assert {lease.job for lease in leases} == {planned, other}
    sweep, now = sweeper(adapters)
    sweep.take_back_lost()
    with locked(planned):
        now[0] = 61.0
        sweep._looked = 60.0
        call(lambda: sweep.sweep() or True)
        with adapters.db.transaction() as tx:
            rows = tx.session.execute(text("SELECT job, state FROM jobs.slices")).all()
        assert {row.job: row.state for row in rows} == {planned: "running", other: "queued"}
    sweep._looked = now[0]
    sweep.sweep()
    with adapters.db.transaction() as tx:
        states = tx.session.scalars(text("SELECT state FROM jobs.slices")).all()
    assert states == ["queued", "queued"]


def test_row_61_what_waits_for_others_is_settled_while_one_is_locked(
    adapters, submit, locked, call, work
) -> None:
    first = submit(slices=1)
    waiting = [submit(slices=1, waits_for=(first,)) for _ in range(2)]
    with adapters.db.transaction() as tx:  # as after a crash between an end and what follows it
        tx.session.execute(text("SET LOCAL session_replication_role = replica"))
        ended = "UPDATE jobs.jobs SET state = 'succeeded', finished_at = now() WHERE id = :id"
        tx.session.execute(text(ended), {"id": first})
    with locked(waiting[0]):
        call(lambda: sweeper(adapters)[0].sweep() or True)
        assert [state(adapters, job) for job in waiting] == ["blocked", "queued"]


def test_row_61_other_jobs_of_anybody_are_claimed(adapters, submit, locked, enrol, call) -> None:
    """Even of the same owner, whose first two jobs are both locked."""
    mine = [submit() for _ in range(3)]
    bobs = submit(enrol("bob", "lab"))

    def take() -> Lease | None:
        return claim(adapters.db, adapters.bell, ASK, threading.Event())

    with locked(mine[0]), locked(mine[1]):
        taken = [call(take).job for _ in range(4)]
        assert sorted(taken) == sorted([mine[2]] * 2 + [bobs] * 2)
        assert call(lambda: [take()]) == [None]


def test_row_61_a_worker_lives_on_while_its_jobs_row_is_locked(
    adapters, submit, locked, call
) -> None:
    job = submit()
    lease = claim(adapters.db, adapters.bell, ASK, threading.Event())
    with locked(job):
        lease.progress(3, 10, "images")
        assert call(lease.beat)
        assert lease.unwritten
    assert lease.beat()
    with adapters.db.transaction() as tx:
        assert adapters.jobs.view(tx, job).done == 3


def test_an_order_that_waits_for_a_locked_job_is_taken(adapters, submit, locked, call) -> None:
    first = submit()
    with locked(first, "NO KEY UPDATE"):  # as every worker locks it
        assert state(adapters, call(lambda: submit(waits_for=(first,)))) == "blocked"


def test_what_cannot_be_changed_now_says_so(adapters, submit, locked, call) -> None:
    job = submit()

    def priority() -> int:
        with adapters.db.transaction() as tx, pytest.raises(JobBusy) as raised:
            adapters.jobs.prioritise(tx, job, -1)
        return raised.value.problem.status

    with locked(job):
        assert call(priority) == 503


def test_a_deletion_waits_for_the_step_that_is_being_written(
    adapters, submit, planning, ada, work, call
) -> None:
    """Rows that are written late would otherwise outlive what they belong to."""
    with adapters.db.transaction() as tx:
        thing = Made("stub", "stub", "thing", new_id())
        lineage.note(tx, ada.caller, thing)
        new = NewJob("stub", "make", "stub", ada.caller, thing.id, {}, [{}])
        job = adapters.jobs.submit(tx, new)
    deletions = Deletions(adapters.db, adapters.jobs, "thing")
    forgotten: list[UUID] = []
    kept = Kept(
        lambda project, resource: f"projects/{project}/things/{resource}/",
        lambda _, resource: forgotten.append(resource),
    )
    handler = {DELETE: Delete(adapters.erasure, {"thing": kept})}
    with planning(job) as write:
        call(lambda: deletions.delete(ada.caller, thing.id, derived=False))
        assert call(lambda: work("stub", "stub", handler, 1)) == 1
        assert forgotten == []
        write()
    assert state(adapters, job) == "cancelled"
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE jobs.slices SET not_before = now() WHERE state = 'queued'"))
    work("stub", "stub", handler)
    assert forgotten == [thing.id]
