"""How long work will take, and when its turn comes: a model of the order of service.

Knows no table. The model serves as the ledger does (`fairness`), in slices that grow with the time
ahead, so that a week of work costs a few hundred steps.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import combinations
from statistics import median
from uuid import UUID

from services.kit.jobs.fairness import SHORT_ALLOWANCE_S, SHORT_HALF_LIFE_S
from services.kit.jobs.leases import YIELD_AFTER_S

NEAREST = 5
"""Past jobs of about the same size from which a new one is estimated."""
APART = 0.4
"""Sizes whose logarithms differ by more say how time grows with size."""
LEAST_S = 0.2
GROWTH = 0.05
MOST_STEPS = 20_000


@dataclass(frozen=True)
class Past:
    """A job that succeeded: how much it was, and how long its slices ran."""

    total: float
    seconds: float


@dataclass(frozen=True)
class Reached:
    """How far a job is. `seconds` its slices have run; `unit_s` is what a unit took of late."""

    done: float
    total: float
    seconds: float
    unit_s: float | None = None


def expected_s(total: float, past: Sequence[Past]) -> float | None:
    """How long the slices of a job run, by those of its kind of the most similar size.

    Seconds grow as a power of the size, which is 0 where all is overhead and 1 where nothing is.
    """
    near = sorted(past, key=lambda each: abs(_log_ratio(total, each.total)))[:NEAREST]
    if not near:
        return None
    power = _power(past)
    return median(p.seconds * math.exp(power * _log_ratio(total, p.total)) for p in near)


def _log_ratio(size: float, other: float) -> float:
    return math.log((size + 1) / (other + 1)) if size and other else 0.0


def _power(past: Sequence[Past]) -> float:
    """The median slope over all pairs of clearly different size (Theil and Sen)."""
    slopes = [
        math.log(one.seconds / other.seconds) / _log_ratio(one.total, other.total)
        for one, other in combinations(past, 2)
        if abs(_log_ratio(one.total, other.total)) > APART
    ]
    return min(max(median(slopes), 0.0), 1.0) if slopes else 1.0


def remaining_s(reached: Reached, past: Sequence[Past]) -> float | None:
    """How long the slices of a job have yet to run, by its own pace where it has one."""
    if 0 < reached.done < reached.total:
        pace = reached.unit_s or reached.seconds / reached.done
        return max((reached.total - reached.done) * pace, LEAST_S)
    expected = expected_s(reached.total, past)
    return None if expected is None else max(expected - reached.seconds, LEAST_S)


@dataclass(frozen=True)
class Owner:
    """What an owner has used: `load` over weight, `short_s` by short jobs of late."""

    weight: float = 1.0
    load: float = 0.0
    short_s: float = 0.0
    cap: int = 1000


@dataclass(frozen=True)
class Work:
    """What is left of a job: `seconds` of slices (None when nobody knows), in `parts` slices of
    which `running` are being worked on, the first for `elapsed_s`.
    """

    queue: str
    owner: UUID
    seconds: float | None
    parts: int = 1
    running: int = 0
    elapsed_s: float = 0.0
    priority: int = 0
    short: bool = False


@dataclass(frozen=True)
class Estimate:
    """Seconds from now; None when nobody knows."""

    starts_in_s: float | None
    ends_in_s: float | None


@dataclass
class _State:
    """A job in the model."""

    work: Work
    left: float
    slice_s: float
    running: int = 0
    starts: float | None = None
    ends: float | None = None

    @property
    def is_free(self) -> bool:
        return self.left > 0 and self.running < self.work.parts


@dataclass
class _Account:
    owner: Owner
    load: float
    short_s: float
    short_at: float = 0.0
    running: dict[str, int] = field(default_factory=lambda: defaultdict[str, int](int))

    def has_allowance(self, now: float) -> bool:
        return self.short_s * 0.5 ** ((now - self.short_at) / SHORT_HALF_LIFE_S) < SHORT_ALLOWANCE_S

    def charge(self, now: float, seconds: float, *, short: bool) -> None:
        self.load += seconds / self.owner.weight
        if short:
            self.short_s *= 0.5 ** ((now - self.short_at) / SHORT_HALF_LIFE_S)
            self.short_s += seconds
            self.short_at = now


class _Model:
    """Queues whose workers share `places`: devices, or the workers of one queue."""

    def __init__(
        self,
        works: Sequence[Work],
        owners: Mapping[UUID, Owner],
        workers: Mapping[str, int],
        places: int,
    ) -> None:
        self.jobs = [_State(w, *_parts(w)) for w in works]
        self._accounts = {o: _Account(who, who.load, who.short_s) for o, who in owners.items()}
        self._idle = dict(workers)
        self._places = places
        self._came = dict.fromkeys(workers, 0.0)
        self._ends: list[tuple[float, int, float]] = []
        self._slices = [j.slice_s for j in self.jobs if math.isfinite(j.slice_s)]
        self._warm: dict[str, int] = {}
        self._unended = sum(math.isfinite(job.left) for job in self.jobs)
        self._in_order: dict[tuple[str, UUID], list[int]] = defaultdict(list)
        by_age = range(len(self.jobs))
        for index in sorted(by_age, key=lambda i: (-works[i].priority, not works[i].short, i)):
            self._in_order[works[index].queue, works[index].owner].append(index)
        self.now = 0.0

    def run(self) -> None:
        for index, job in enumerate(self.jobs):
            for _ in range(min(job.work.running, job.work.parts)):
                self._start(index, job.work.elapsed_s)
        steps = 0
        while steps < MOST_STEPS:
            while (index := self._next()) is not None:
                self._start(index)
                steps += 1
            if not self._ends or not self._unended:
                return
            self._finish()

    def _next(self) -> int | None:
        """The job that gets a place now: the queue that came first chooses by fairness."""
        if self._places < 1:
            return None
        for queue in sorted(self._came, key=lambda each: self._came[each]):
            if self._idle[queue] < 1:
                continue
            heads = [*self._heads(queue)]
            if heads:
                return min(heads, key=lambda i: self._rank(i, queue))
        return None

    def _heads(self, queue: str) -> Iterator[int]:
        """Each owner's first job that has a slice to begin, and the one that was run last."""
        for owner, account in self._accounts.items():
            if account.running[queue] >= account.owner.cap:
                continue
            indices = self._in_order[queue, owner]
            while indices and not self.jobs[indices[0]].left:
                indices.pop(0)
            first = next((i for i in indices if self.jobs[i].is_free), None)
            if first is not None:
                yield first
        warm = self._warm.get(queue)
        if warm is not None and self.jobs[warm].is_free:
            account = self._accounts[self.jobs[warm].work.owner]
            if account.running[queue] < account.owner.cap:
                yield warm

    def _rank(self, index: int, queue: str) -> tuple[float, ...]:
        work = self.jobs[index].work
        account = self._accounts[work.owner]
        jumps = work.short and account.has_allowance(self.now)
        warm = self._warm.get(queue) == index
        return (-work.priority, not jumps, account.load, not work.short, not warm, index)

    def _start(self, index: int, elapsed_s: float = 0.0) -> None:
        job = self.jobs[index]
        work = job.work
        growth = max(1.0, GROWTH * self.now / max(self._slices, default=1.0))
        seconds = min(max(job.slice_s * growth - elapsed_s, LEAST_S), job.left)
        if not math.isfinite(seconds):
            seconds = max(YIELD_AFTER_S * growth - elapsed_s, LEAST_S)
        if work.short and work.parts == 1:  # it keeps its turn
            seconds = min(job.left, SHORT_ALLOWANCE_S)
        if job.starts is None:
            job.starts = self.now
        job.left -= seconds
        if job.left < LEAST_S / 2:  # too little for a slice of its own
            seconds, job.left = seconds + job.left, 0.0
        job.running += 1
        account = self._accounts[work.owner]
        account.running[work.queue] += 1
        account.charge(self.now, seconds, short=work.short)
        self._places -= 1
        self._idle[work.queue] -= 1
        self._warm[work.queue] = index
        heappush(self._ends, (self.now + seconds, index, seconds))

    def _finish(self) -> None:
        self.now, index, _ = heappop(self._ends)
        job = self.jobs[index]
        queue = job.work.queue
        job.running -= 1
        self._accounts[job.work.owner].running[queue] -= 1
        self._places += 1
        self._idle[queue] += 1
        self._came[queue] = self.now
        if not job.left and not job.running:
            job.ends = self.now
            self._unended -= 1


def _parts(work: Work) -> tuple[float, float]:
    """What is left, and how much of it a slice does before others get their turn."""
    if work.seconds is None:
        return math.inf, math.inf
    return work.seconds, min(max(work.seconds / max(work.parts, 1), LEAST_S), YIELD_AFTER_S)


def forecast(
    works: Sequence[Work], owners: Mapping[UUID, Owner], workers: Mapping[str, int], places: int
) -> list[Estimate]:
    """When each job's next slice begins and its last one ends.

    `works` are in order of age; `workers` are those that are up, by queue: at most `places` of them
    work at once.
    """
    queues = {work.queue for work in works}
    model = _Model(works, owners, {q: workers.get(q, 0) for q in queues}, places)
    model.run()
    return [Estimate(job.starts, job.ends) for job in model.jobs]
