"""`python -m benchmarks.estimates`: how right the queue's estimates are, in simulated days of work.

`recorded_slices.csv` holds jobs of a real installation (two CPU cores, drawn phantoms) with the
seconds of every slice. A simulated lab of a few people orders jobs like these, some of them many
times as large, on one device; whenever a job is ordered, and at random moments, the ends of all
that is queued are estimated as `GET /queue` does, and compared with what came of it.

`python -m benchmarks.estimates DATABASE_URL` prints the jobs of an installation in the form of the
file.
"""

import csv
import random
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import create_engine, text

from services.kit.jobs.fairness import SHORT_ALLOWANCE_S, SHORT_HALF_LIFE_S
from services.kit.jobs.forecast import Owner, Past, Reached, Work, forecast, remaining_s
from services.kit.jobs.leases import YIELD_AFTER_S

RECORDED = Path(__file__).with_name("recorded_slices.csv")
TICK_S = 0.5
DAY_S = 12 * 3600.0
STRETCH_S = 600.0
PAST = 30
PEOPLE = 4
MULTIPLES = {"train-generator": (20, 50, 150), "experiment": (10, 30, 60), "generate": (1, 1, 4)}
"""A lab's jobs are so many times as large as those that were recorded."""
BOOKS = {"plan", "publish"}
NO_PROGRESS = {*BOOKS, "calibrate", "compare"}
HANDLING_S = 0.02
"""What it costs to end a slice and to claim the next."""
STRETCHED = {"train-generator", "experiment"}
LONG_EVERY_S, SHORT_EVERY_S, LOOK_EVERY_S = 7200.0, 240.0, 600.0
FLOOR_S = 1.0
"""A second more or less is nothing to be judged by."""

_JOBS = text("""
    SELECT j.kind, j.queue, j.short, j.total,
           array_agg(coalesce(s.payload ->> 'step', '') || ':' ||
                     round(extract(epoch FROM a.ended_at - a.started_at)::numeric, 3)
                     ORDER BY a.started_at) AS slices
    FROM jobs.jobs j JOIN jobs.attempts a ON a.job = j.id JOIN jobs.slices s ON s.id = a.slice
    WHERE j.state = 'succeeded' AND a.outcome IN ('done', 'released') AND j.total > 0
      AND j.queue IN ('generation', 'training')
    GROUP BY j.id ORDER BY j.kind, j.total, j.id
""")


@dataclass(frozen=True)
class Recorded:
    """A job as it ran: its slices as (step, seconds)."""

    kind: str
    queue: str
    short: bool
    total: float
    slices: list[tuple[str, float]]


def recorded() -> list[Recorded]:
    """The jobs in the file."""
    with RECORDED.open() as file:
        return [
            Recorded(
                row["kind"],
                row["queue"],
                row["short"] == "True",
                float(row["total"]),
                [_slice(each) for each in row["slices"].split()],
            )
            for row in csv.DictReader(file)
        ]


def _slice(word: str) -> tuple[str, float]:
    step, _, seconds = word.rpartition(":")
    return step, float(seconds)


@dataclass
class _Job:
    recorded: Recorded
    owner: UUID
    total: float
    slices: list[tuple[str, float]]
    ordered_at: float
    used: float = 0.0
    worked: float = 0.0
    """Seconds of the slices that move `done`."""
    work: float = 0.0
    """All such seconds."""
    since: float | None = None
    ended_at: float | None = None
    step: str = ""

    @property
    def done(self) -> float:
        return self.total * min(self.worked / self.work, 1.0) if self.work else 0.0


@dataclass
class _Worker:
    job: _Job | None = None
    left: float = 0.0
    warm: _Job | None = None
    on_device: bool = False
    waits_since: float = 0.0
    turn_since: float = 0.0


@dataclass(frozen=True)
class Told:
    """An estimate of how long a job would take yet, and how long it took."""

    kind: str
    estimate: float
    actual: float

    @property
    def factor(self) -> float:
        ratio = (self.estimate + FLOOR_S) / (self.actual + FLOOR_S)
        return max(ratio, 1 / ratio)


@dataclass
class Installation:
    """One device, a worker of each of its queues, and some people, for a day."""

    seed: int
    now: float = 0.0
    jobs: list[_Job] = field(default_factory=list[_Job])
    workers: dict[str, _Worker] = field(
        default_factory=lambda: {q: _Worker() for q in ("generation", "training")}
    )

    def __post_init__(self) -> None:
        self._lot = random.Random(self.seed)
        self._people = [uuid4() for _ in range(PEOPLE)]
        self._used: dict[UUID, float] = defaultdict(float)
        self._short: dict[UUID, float] = defaultdict(float)
        self._past: dict[str, list[Past]] = defaultdict(list)
        self._told: list[tuple[_Job, float, float]] = []
        self._recorded = recorded()
        self.ended: list[_Job] = []
        self.unknown = 0

    def run(self, seconds: float = DAY_S) -> list[Told]:
        """All estimates of jobs that came to their end."""
        next_long = next_short = 0.0
        next_look = LOOK_EVERY_S
        while self.now < seconds:
            if self.now >= next_long:
                self._order(long=True)
                next_long += self._lot.expovariate(1 / LONG_EVERY_S)
            if self.now >= next_short:
                self._order(long=False)
                next_short += self._lot.expovariate(1 / SHORT_EVERY_S)
            if self.now >= next_look:
                self._look()
                next_look += self._lot.expovariate(1 / LOOK_EVERY_S)
            self._tick()
        return [
            Told(job.recorded.kind, told, job.ended_at - at)
            for job, at, told in self._told
            if job.ended_at is not None
        ]

    # ------------------------------------------------------------ what is ordered

    def _order(self, *, long: bool) -> None:
        like = self._lot.choice([r for r in self._recorded if (r.kind in STRETCHED) == long])
        times = self._lot.choice(MULTIPLES.get(like.kind, (1,)))
        owner = self._lot.choice(self._people)
        slices = list(_larger(like, times))
        job = _Job(like, owner, like.total * times, slices, self.now)
        job.work = sum(s for step, s in slices if step not in NO_PROGRESS)
        self.jobs.append(job)
        self._look(job)

    def _look(self, only: _Job | None = None) -> None:
        works = [self._work(job) for job in self.jobs]
        owners = {p: Owner(1.0, self._used[p], self._short[p]) for p in self._people}
        found = forecast(works, owners, {"generation": 1, "training": 1}, 1)
        for job, each in zip(self.jobs, found, strict=True):
            if only is None or only is job:
                if each.ends_in_s is None:
                    self.unknown += 1
                else:
                    self._told.append((job, self.now, each.ends_in_s))

    def _work(self, job: _Job) -> Work:
        running = [w for w in self.workers.values() if w.job is job]
        done = job.done
        pace = job.work / job.total if running and job.step not in BOOKS and done > 0 else None
        reached = Reached(done, job.total, job.used, pace)
        return Work(
            queue=job.recorded.queue,
            owner=job.owner,
            seconds=remaining_s(reached, self._past[job.recorded.kind]),
            parts=max(len(job.slices) + len(running), 1) if job.recorded.kind != "generate" else 1,
            running=len(running),
            elapsed_s=0.0 if job.since is None else self.now - job.since,
            short=job.recorded.short,
        )

    # ------------------------------------------------------------ who works

    def _tick(self) -> None:
        for worker in self.workers.values():
            self._advance(worker)
        for owner in self._short:
            self._short[owner] *= 0.5 ** (TICK_S / SHORT_HALF_LIFE_S)
        for queue in sorted(self.workers, key=lambda q: self.workers[q].waits_since):
            if self.workers[queue].job is None:
                self._claim(queue, self.workers[queue])
        self.now += TICK_S

    def _advance(self, worker: _Worker) -> None:
        """Work for a tick; the next slice of a short job that keeps its turn follows within it."""
        budget = TICK_S
        while worker.job is not None and budget > 0:
            job = worker.job
            ran = min(budget, worker.left)
            budget -= max(ran, HANDLING_S)
            self._work_on(worker, job, ran)
            if worker.left > 0 and not self._pauses(job):
                return
            self._leave(worker, job)

    def _work_on(self, worker: _Worker, job: _Job, ran: float) -> None:
        worker.left -= ran
        job.used += ran
        self._used[job.owner] += ran
        if job.recorded.short:
            self._short[job.owner] += ran
        if job.step not in NO_PROGRESS:
            job.worked += ran

    def _pauses(self, job: _Job) -> bool:
        elapsed = self.now - (job.since or 0.0)
        is_long = job.recorded.kind in STRETCHED and job.step not in BOOKS
        waited_for = elapsed > YIELD_AFTER_S and self._others_wait(job)
        return is_long and (waited_for or elapsed > STRETCH_S)

    def _leave(self, worker: _Worker, job: _Job) -> None:
        if worker.left > 0:
            job.slices.insert(0, (job.step, worker.left))
        job.since, worker.job, worker.left = None, None, 0.0
        if not job.slices:
            self._end(job)
        keeps = job.recorded.short and self.now - worker.turn_since < SHORT_ALLOWANCE_S
        if keeps and job.slices and worker.on_device:
            self._start(worker, job)
        else:
            worker.on_device, worker.waits_since = False, self.now

    def _end(self, job: _Job) -> None:
        job.ended_at = self.now
        self.jobs.remove(job)
        self.ended.append(job)
        past = self._past[job.recorded.kind]
        past.insert(0, Past(job.total, job.used))
        del past[PAST:]

    def _others_wait(self, job: _Job) -> bool:
        return any(
            other is not job
            and other.since is None
            and (other.owner != job.owner or other.recorded.short)
            for other in self.jobs
        )

    def _claim(self, queue: str, worker: _Worker) -> None:
        ready = [j for j in self.jobs if j.recorded.queue == queue and j.since is None]
        if any(each.on_device for each in self.workers.values()):
            ready = [job for job in ready if job.slices[0][0] in BOOKS]
            on_device = False
        else:
            on_device = True
        if not ready:
            return
        job = min(ready, key=lambda each: self._rank(each, worker))
        worker.on_device = on_device and (job.recorded.short or job.slices[0][0] not in BOOKS)
        worker.turn_since = self.now
        self._start(worker, job)

    def _start(self, worker: _Worker, job: _Job) -> None:
        job.step, worker.left = job.slices.pop(0)
        worker.job = job
        if job.step not in BOOKS:
            worker.warm = job
        job.since = self.now

    def _rank(self, job: _Job, worker: _Worker) -> tuple[Any, ...]:
        jumps = job.recorded.short and self._short[job.owner] < SHORT_ALLOWANCE_S
        load = self._used[job.owner]
        return (not jumps, load, not job.recorded.short, worker.warm is not job, job.ordered_at)


def _larger(like: Recorded, times: int) -> Iterator[tuple[str, float]]:
    """Its slices, those that do the work so many times."""
    for step, seconds in like.slices:
        if step in {*BOOKS, "calibrate"}:
            yield step, seconds
        elif like.kind == "train-generator":
            yield step, seconds * times
        else:
            yield from [(step, seconds)] * times


def share_within(told: Sequence[Told], factor: float) -> float:
    """The share of the estimates that are right within a factor."""
    return sum(each.factor <= factor for each in told) / len(told)


def record(url: str) -> None:
    """Print the jobs of an installation in the form of the file."""
    out = csv.writer(sys.stdout)
    out.writerow(["kind", "queue", "short", "total", "slices"])
    with create_engine(url).connect() as connection:
        for row in connection.execute(_JOBS):
            out.writerow([row.kind, row.queue, row.short, row.total, " ".join(row.slices)])


def main() -> None:
    """Print the share within a factor of two, by kind of job."""
    for seed in range(5):
        lab = Installation(seed)
        told = lab.run()
        by_kind: dict[str, list[Told]] = defaultdict(list)
        for each in told:
            by_kind[each.kind].append(each)
        right = share_within(told, 2)
        print(f"day {seed}: {len(told)} estimates, {lab.unknown} without; right: {right:.3f}")
        for kind, some in sorted(by_kind.items()):
            print(f"  {kind:<20} {len(some):>5}  {share_within(some, 2):.3f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        record(sys.argv[1])
    else:
        main()
