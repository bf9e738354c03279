"""The queue as people see it: everyone's place and an estimate, and not what others run."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Row, select, text

from api_schemas.jobs import QueuePlace, QueueView
from services.kit.auth import Caller
from services.kit.db import Tx
from services.kit.jobs.fairness import OWNERS, pool
from services.kit.jobs.models import Job

SHOWN = 1000

_PLACES = text(f"""
    WITH {OWNERS}, open AS (
        SELECT s.job, count(*) FILTER (WHERE s.state = 'running') AS running,
               count(*) FILTER (WHERE s.state = 'queued') AS waiting
        FROM jobs.slices s WHERE s.state IN ('queued', 'running') GROUP BY s.job
    )
    SELECT j.id, j.kind, j.owner, j.project, j.state, o.load, coalesce(o.weight, 1) AS weight,
           coalesce(open.running, 0) AS running, coalesce(open.waiting, 0) AS waiting
    FROM jobs.jobs j JOIN owners o ON o.owner = j.owner LEFT JOIN open ON open.job = j.id
    WHERE j.queue = :queue AND j.finished_at IS NULL
    ORDER BY (j.state = 'blocked'), j.priority DESC, o.load, j.created_at, j.id
    LIMIT :limit
""")  # noqa: S608 - joined from constants

_PACE = text("""
    SELECT count(DISTINCT worker) FILTER (
               WHERE ended_at IS NULL OR ended_at > now() - interval '10 minutes') AS workers,
           avg(extract(epoch FROM ended_at - started_at))
               FILTER (WHERE outcome = 'done') AS seconds
    FROM (SELECT a.worker, a.started_at, a.ended_at, a.outcome
          FROM jobs.attempts a JOIN jobs.jobs j ON j.id = a.job
          WHERE j.queue = :queue ORDER BY a.started_at DESC LIMIT 500) recent
""")


@dataclass(frozen=True)
class Work:
    """What is left of a job, as far as an estimate needs it; in the order of service."""

    owner: UUID
    weight: float
    running: int
    waiting: int

    @property
    def parts(self) -> int:
        return self.running + self.waiting


@dataclass(frozen=True)
class Estimate:
    starts_in_s: float
    ends_in_s: float


def estimate(works: Sequence[Work], workers: int, part_s: float) -> list[Estimate]:
    """When each job's next part begins and its last one ends, in seconds from now.

    Processor sharing: the workers divide among owners by weight, an owner's jobs follow each
    other, and who ends leaves their share to the rest. `part_s` is how long a part takes.
    """
    left = {index: work.parts * part_s for index, work in enumerate(works)}
    starts: dict[int, float] = {}
    ends: dict[int, float] = {}
    slot_s = part_s / workers if sum(w.running for w in works) >= workers else 0.0
    now = 0.0
    while left:
        heads: dict[UUID, int] = {}
        for index in left:
            heads.setdefault(works[index].owner, index)
        weights = sum(works[index].weight for index in heads.values())
        rates = {i: workers * works[i].weight / weights for i in heads.values()}
        for index in rates:
            starts.setdefault(index, 0.0 if works[index].running else now + slot_s)
        step = min(left[index] / rate for index, rate in rates.items())
        now += step
        for index, rate in rates.items():
            left[index] -= step * rate
            if left[index] <= 1e-9 * part_s:
                del left[index]
                ends[index] = max(now, starts[index])
    return [Estimate(starts[i], ends[i]) for i in range(len(works))]


def names(tx: Tx) -> list[str]:
    """The queues with unfinished work."""
    open_ = select(Job.queue).where(Job.finished_at.is_(None)).distinct().order_by(Job.queue)
    return list(tx.session.scalars(open_))


def view(tx: Tx, caller: Caller, queue: str, running_cap: int) -> QueueView:
    """The first `SHOWN` jobs of a queue in the order in which they are served."""
    values = {"queue": queue, "pool": pool(queue), "running_cap": running_cap, "limit": SHOWN}
    rows = tx.session.execute(_PLACES, values).all()
    pace = tx.session.execute(_PACE, {"queue": queue}).one()
    moving = [row for row in rows if row.state != "blocked"]
    works = [Work(row.owner, row.weight, row.running, row.waiting) for row in moving]
    known: dict[UUID, Estimate] = {}
    if pace.workers and pace.seconds is not None:
        found = estimate(works, pace.workers, max(float(pace.seconds), 0.001))
        known = {row.id: each for row, each in zip(moving, found, strict=True)}
    return QueueView(
        queue=queue,
        workers=pace.workers,
        places=[_place(n, row, caller, known.get(row.id)) for n, row in enumerate(rows, 1)],
    )


def _place(
    number: int, row: Row[tuple[object, ...]], caller: Caller, est: Estimate | None
) -> QueuePlace:
    yours = row.owner == caller.person and row.project == caller.project
    return QueuePlace(
        place=number,
        yours=yours,
        job=row.id if yours else None,
        kind=row.kind if yours else None,
        state=row.state,
        running=row.running,
        waiting=row.waiting,
        starts_in_s=None if est is None else round(est.starts_in_s, 1),
        ends_in_s=None if est is None else round(est.ends_in_s, 1),
    )
