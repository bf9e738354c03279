"""Who has the device, and for how long: short jobs, books, and workers that take turns."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from services.kit.adapters import Adapters
from services.kit.jobs import Lease, NewJob
from services.kit.jobs.devices import Device
from services.kit.jobs.fairness import Ask, Choice
from services.kit.jobs.leases import claim
from services.kit.jobs.runner import Runner
from tests.conftest import Member

STEPS = ("plan", "draw", "compare", "publish")
BOOKS = ("draw/plan", "draw/publish")


@pytest.fixture
def submit(adapters: Adapters) -> Callable[..., UUID]:
    def put(
        member: Member, kind: str, queue: str, *, short: bool = False, step: str = "plan"
    ) -> UUID:
        job = NewJob(
            *("stub", kind, queue, member.caller, uuid4(), {}, [{"step": step}]), short=short
        )
        with adapters.db.transaction() as tx:
            return adapters.jobs.submit(tx, job)

    return put


@pytest.fixture
def take(adapters: Adapters) -> Callable[[str], Lease | None]:
    def claimed(queue: str) -> Lease | None:
        ask = Ask(queue, "stub", "a worker", running_cap=100)
        return claim(adapters.db, adapters.bell, ask, threading.Event())

    return claimed


def use(adapters: Adapters, member: Member, seconds: float, short: float = 0.0) -> None:
    with adapters.db.transaction() as tx:
        tx.session.execute(
            text("INSERT INTO jobs.usage VALUES (:owner, 'training', :seconds, now(), :short)"),
            {"owner": member.caller.person, "seconds": seconds, "short": short},
        )


def test_a_short_job_goes_before_a_long_one_of_the_same_person(ada, submit, take) -> None:
    submit(ada, "train", "training")
    short = submit(ada, "score", "training", short=True)
    assert take("training").job == short


def test_a_short_job_goes_first_whatever_its_owner_has_used(adapters, enrol, submit, take) -> None:
    ada, bob = enrol("ada"), enrol("bob")
    use(adapters, ada, 100_000)
    submit(bob, "train", "training")
    short = submit(ada, "score", "training", short=True)
    assert take("training").job == short


def test_many_short_jobs_do_not_keep_others_waiting(adapters, enrol, submit, take) -> None:
    ada, bob = enrol("ada"), enrol("bob")
    use(adapters, ada, 1000, short=61)
    training = submit(bob, "train", "training")
    submit(ada, "score", "training", short=True)
    assert take("training").job == training


def test_what_short_jobs_used_is_forgotten_by_half_in_ten_minutes(
    adapters, enrol, submit, take
) -> None:
    ada, bob = enrol("ada"), enrol("bob")
    use(adapters, ada, 1000, short=100)
    with adapters.db.transaction() as tx:
        tx.session.execute(text("UPDATE jobs.usage SET as_of = as_of - interval '10 minutes'"))
    submit(bob, "train", "training")
    short = submit(ada, "score", "training", short=True)
    assert take("training").job == short


def test_the_seconds_of_short_jobs_are_counted(adapters, ada, submit, take) -> None:
    submit(ada, "score", "training", short=True)
    lease = take("training")
    lease.began -= 30
    with lease.finishing():
        pass
    with adapters.db.transaction() as tx:
        used, kept = tx.session.execute(
            text("SELECT u.short_seconds, j.seconds FROM jobs.usage u, jobs.jobs j")
        ).one()
    assert used == pytest.approx(30, abs=5)
    assert kept == pytest.approx(30, abs=5)


def test_a_long_slice_pauses_for_a_short_job_of_the_same_person(ada, submit, take) -> None:
    submit(ada, "train", "training")
    lease = take("training")
    submit(ada, "train", "training")
    lease.began -= 3600
    lease.beat()
    assert not lease.should_pause()
    submit(ada, "draw", "generation", short=True)
    lease.beat()
    assert lease.should_pause()


class Work:
    """Handlers that note what ran: an order of some steps, and a training in stretches."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.training = threading.Event()
        self.stretch_over = threading.Event()

    def draw(self, lease: Lease) -> None:
        step = lease.payload["step"]
        self.ran.append(step)
        after = STEPS[STEPS.index(step) + 1 :][:1]
        with lease.finishing([{"step": each} for each in after]):
            pass

    def train(self, lease: Lease) -> None:
        self.ran.append("train")
        self.training.set()
        self.stretch_over.wait(30)
        self.stretch_over.clear()
        with lease.finishing([lease.payload] if len(self.ran) < 9 else []):
            pass


@pytest.fixture
def runner_of(adapters: Adapters) -> Callable[..., Runner]:
    def make(queue: str, work: Work, device: str) -> Runner:
        ask = Ask(queue, "stub", f"{queue} worker", running_cap=4, off_device=BOOKS)
        handlers = {"draw": work.draw, "train": work.train}
        return Runner(adapters.db, adapters.bell, handlers, ask, device=device, heartbeat_s=0.1)

    return make


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_books_are_kept_while_another_worker_has_the_device(
    adapters, ada, submit, runner_of
) -> None:
    """An order is planned during a stretch, and drawn in one go once it is over."""
    work, device = Work(), f"host:{uuid4()}"
    submit(ada, "train", "training", step="stretch")
    submit(ada, "draw", "generation", short=True)
    trainer, renderer = (runner_of(q, work, device) for q in ("training", "generation"))
    threads = [threading.Thread(target=trainer.answer_bell)]
    threads[0].start()
    assert work.training.wait(30)
    assert renderer.answer_bell()
    assert work.ran == ["train", "plan"]
    threads.append(threading.Thread(target=renderer.answer_bell))
    threads[1].start()
    time.sleep(0.5)
    assert work.ran == ["train", "plan"]
    work.stretch_over.set()
    until(lambda: len(work.ran) == 5)
    for thread in threads:
        thread.join(30)
    assert work.ran == ["train", "plan", "draw", "compare", "publish"]


def test_a_short_job_keeps_its_turn(ada, submit, runner_of) -> None:
    """Its slices follow each other although a training waits for the device."""
    work, device = Work(), f"host:{uuid4()}"
    submit(ada, "train", "training", step="stretch")
    submit(ada, "draw", "generation", short=True)
    renderer, trainer = (runner_of(q, work, device) for q in ("generation", "training"))
    work.stretch_over.set()
    first = work.draw

    def draw(lease: Lease) -> None:
        if lease.payload["step"] == "plan":
            thread.start()
            time.sleep(0.3)  # the training waits for the device by now
        first(lease)

    renderer._handlers = {"draw": draw}
    thread = threading.Thread(target=trainer.answer_bell)
    assert renderer.answer_bell()
    thread.join(30)
    assert work.ran == [*STEPS, "train"]


def test_a_long_job_gives_the_device_away_after_each_slice(ada, submit, runner_of) -> None:
    work, device = Work(), f"host:{uuid4()}"
    submit(ada, "draw", "generation", step="draw")
    assert runner_of("generation", work, device).answer_bell()
    assert work.ran == ["draw"]


def test_the_device_is_held_by_one_and_left_by_it(adapters) -> None:
    name = f"host:{uuid4()}"
    one, other = Device(adapters.db, name), Device(adapters.db, name)
    assert one.acquire()
    assert not other.acquire()
    assert not other.acquire(0.1)
    one.release()
    assert other.acquire()
    other.release()
    assert not other.is_held


def test_a_worker_takes_only_books_where_it_is_told_to(adapters, ada, submit) -> None:
    submit(ada, "draw", "generation", step="draw")
    ask = Ask("generation", "stub", "a worker", running_cap=4, off_device=BOOKS)
    books = Choice(off_device=True)
    assert claim(adapters.db, adapters.bell, ask, threading.Event(), books) is None
    planned = submit(ada, "draw", "generation")
    assert claim(adapters.db, adapters.bell, ask, threading.Event(), books).job == planned
    none = replace(ask, off_device=())
    submit(ada, "draw", "generation")
    assert claim(adapters.db, adapters.bell, none, threading.Event(), books) is None
