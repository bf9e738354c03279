"""Why a job waits, in words; what it says when it runs, is set aside, or has ended."""

from collections.abc import Callable
from threading import Event
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from api_schemas.base import JobState, JobView
from services.kit.adapters import Adapters
from services.kit.jobs import Lease, NewJob, lineage
from services.kit.jobs.fairness import Ask
from services.kit.jobs.leases import claim
from services.kit.jobs.lineage import Made
from services.kit.jobs.presence import Presence, has_ended, this_process
from services.kit.jobs.queue import view
from services.kit.jobs.sweeper import Sweeper
from tests.conftest import Member


def ask_of(queue: str) -> Ask:
    return Ask(queue, "stub", f"{queue} worker", running_cap=4)


@pytest.fixture
def submit(adapters: Adapters) -> Callable[..., UUID]:
    """A job that makes a resource of some kind and name."""

    def put(
        member: Member, kind: str, queue: str, made: str = "", name: str = "", **more: object
    ) -> UUID:
        resource = uuid4()
        with adapters.db.transaction() as tx:
            if made:
                lineage.note(tx, member.caller, Made("stub", queue, made, resource, name))
            new = NewJob("stub", kind, queue, member.caller, resource, {}, [{}], **more)  # type: ignore[arg-type]
            return adapters.jobs.submit(tx, new)

    return put


@pytest.fixture
def take(adapters: Adapters) -> Callable[[str], Lease]:
    def claimed(queue: str) -> Lease:
        lease = claim(adapters.db, adapters.bell, ask_of(queue), Event())
        assert lease is not None
        return lease

    return claimed


@pytest.fixture
def up(adapters: Adapters) -> Callable[..., None]:
    """Workers of these queues are up, on one device."""

    def announce(*queues: str) -> None:
        for queue in queues:
            Presence(adapters.db, ask_of(queue), "host:cuda").announce()

    return announce


@pytest.fixture
def look(adapters: Adapters) -> Callable[[UUID], JobView]:
    def see(job: UUID) -> JobView:
        with adapters.db.transaction() as tx:
            return adapters.jobs.view(tx, job)

    return see


def test_without_a_worker_that_is_said(ada, submit, look) -> None:
    job = submit(ada, "generate", "generation")
    assert look(job).message == "no worker of the queue 'generation' is up"


def test_the_device_trains_something_else(ada, submit, take, look, up) -> None:
    up("training", "generation")
    submit(ada, "experiment", "training", "experiment", "Study 7")
    lease = take("training")
    lease.progress(10, 1000, "steps")
    lease.beat()
    job = submit(ada, "generate", "generation", "generation", "Four", short=True)
    words = look(job).message
    assert words.startswith("the device trains experiment 'Study 7' until about ")
    assert look(job).state is JobState.QUEUED
    assert look(lease.job).message == ""


def test_what_runs_in_another_project_is_not_named(ada, stranger, submit, take, look, up) -> None:
    up("training", "generation")
    submit(stranger, "experiment", "training", "experiment", "Secret of theirs")
    take("training")
    words = look(submit(ada, "generate", "generation", short=True)).message
    assert words.startswith("the device works for another project")


def test_a_job_in_the_queue_is_told_how_many_go_before(ada, submit, take, look, up) -> None:
    up("generation")
    for n in range(4):
        submit(ada, "train-generator", "generation", "generator", f"G{n}")
    take("generation")
    last = submit(ada, "train-generator", "generation", "generator", "last")
    words = look(last).message
    assert words.startswith("the device trains generator 'G0'; 3 jobs go before this one")


def test_what_a_blocked_job_waits_for_is_named(ada, submit, take, look) -> None:
    cohort = submit(ada, "generate", "generation", "generation", "C 12")
    job = submit(ada, "experiment", "training", "experiment", "S", waits_for=[cohort])
    assert look(job).message == "waits for cohort 'C 12', which has not begun"
    lease = take("generation")
    lease.progress(62, 100, "images")
    lease.beat()
    assert look(job).message == "waits for cohort 'C 12', 62 % done"


def test_a_job_that_was_set_aside_is_not_running(adapters, ada, enrol, submit, take, look, up):
    up("training")
    mine = submit(ada, "experiment", "training", "experiment", "Mine")
    lease = take("training")
    assert look(mine).state is JobState.RUNNING
    lease.progress(5, 10, "steps", "loss 0.3")
    with lease.finishing([{}]):
        pass
    submit(enrol("bob"), "experiment", "training", "experiment", "Bob's")
    take("training")
    seen = look(mine)
    assert (seen.state, seen.done, seen.total) == (JobState.QUEUED, 5, 10)
    assert seen.started_at is not None
    assert seen.message.startswith("the device trains experiment 'Bob's'")
    with adapters.db.transaction() as tx:
        places = view(tx, ada.caller, "training", 4).places
    assert {p.state for p in places if p.yours} == {"queued"}


def test_what_is_put_off_says_when_it_is_tried_again(ada, submit, take, look, up) -> None:
    up("cpu")
    job = submit(ada, "ingest", "cpu")
    take("cpu").give_back("the object store was away", 300)
    assert look(job).message.startswith("the object store was away; tried again at about ")


def test_what_has_succeeded_says_nothing_of_time_left(ada, submit, take, look) -> None:
    job = submit(ada, "delete-some", "cpu")
    lease = take("cpu")
    lease.progress(63, 0, "objects", "about 1 s left")
    with lease.finishing():
        pass
    seen = look(job)
    assert (seen.message, seen.done, seen.total) == ("", 63, 63)


def test_workers_are_those_that_are_up(adapters, ada, submit, up) -> None:
    submit(ada, "ingest", "cpu")

    def workers() -> int:
        with adapters.db.transaction() as tx:
            return view(tx, ada.caller, "cpu", 4).workers

    assert workers() == 0
    up("cpu", "generation")
    up("cpu")
    assert workers() == 1
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE jobs.workers SET seen_at = now() - interval '1 minute'"))
    assert workers() == 0


def test_a_worker_that_ends_is_not_up(adapters, ada, submit) -> None:
    submit(ada, "ingest", "cpu")
    presence = Presence(adapters.db, ask_of("cpu"))
    presence.end()
    presence._say()
    with adapters.db.transaction() as tx:
        assert view(tx, ada.caller, "cpu", 4).workers == 0


def test_a_slice_whose_process_has_ended_is_taken_back_at_once(
    adapters, ada, submit, take, look, up
) -> None:
    up("training")
    job = submit(ada, "experiment", "training")
    take("training")
    sweeper = Sweeper(adapters.db, adapters.bell, 60.0)
    sweeper.sweep()
    assert look(job).state is JobState.RUNNING
    place, pid, began = this_process().rsplit("/", 2)
    with adapters.db.transaction() as tx:
        other = f"{place}/{pid}/{int(began) - 1}"  # the number is another process's now
        tx.session.execute(text("UPDATE jobs.workers SET process = :other"), {"other": other})
    sweeper.sweep()
    assert look(job).state is JobState.QUEUED


def test_only_a_process_of_this_host_is_known_to_have_ended() -> None:
    place, pid, began = this_process().rsplit("/", 2)
    assert not has_ended(this_process())
    assert has_ended(f"{place}/{pid}/{int(began) + 1}")
    assert has_ended(f"{place}/{2**22 + 1}/{began}")
    assert not has_ended(f"another-host/pid:[1]/{pid}/{int(began) + 1}")
    assert not has_ended("")


def test_a_pause_of_a_worker_is_told_while_it_lasts(ada, submit, take, look, up) -> None:
    up("cpu")
    job = submit(ada, "ingest", "cpu")
    lease = take("cpu")
    assert look(job).message == ""
    lease.give_back("a pause")
    assert look(job).message == "a worker is about to take it"
