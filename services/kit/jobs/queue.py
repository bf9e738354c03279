"""The queue as people see it: everyone's place and an estimate, and not what others run."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, text

from api_schemas.jobs import QueuePlace, QueueView
from services.kit.auth import Caller
from services.kit.db import Tx
from services.kit.jobs import presence
from services.kit.jobs.fairness import ON_DEVICES, OWNERS, pool
from services.kit.jobs.forecast import Estimate, Owner, Past, Reached, Work, forecast, remaining_s
from services.kit.jobs.models import Job

SHOWN = 1000
PASTS = 30
"""Finished jobs of a kind that are looked at."""
BEATS = 20
"""Signs of progress from which a running job's pace is taken."""

_PLACES = text(f"""
    WITH {OWNERS}, places AS (
        SELECT j.*, o.load, o.short_seconds AS owner_short_s, o.cap,
               coalesce(o.weight, 1) AS weight,
               row_number() OVER (
                   ORDER BY (j.state = 'blocked'), j.priority DESC, (j.short AND o.allowance) DESC,
                            o.load, j.short DESC, j.created_at, j.id) AS place
        FROM jobs.jobs j JOIN owners o ON o.owner = j.owner
        WHERE j.queue = :queue AND j.finished_at IS NULL
        ORDER BY place LIMIT :limit
    )
    SELECT j.id, j.kind, j.queue, j.owner, j.project, j.state, j.priority, j.short, j.created_at,
           j.done, j.total, j.seconds, j.weight, j.load, j.owner_short_s, j.cap, j.place,
           open.running, open.waiting, open.elapsed_s, open.longest_s, pace.unit_s
    FROM places j CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE s.state = 'running') AS running,
               count(*) FILTER (WHERE s.state = 'queued') AS waiting,
               coalesce(sum(extract(epoch FROM now() - s.started_at))
                        FILTER (WHERE s.state = 'running'), 0) AS elapsed_s,
               coalesce(max(extract(epoch FROM now() - s.started_at))
                        FILTER (WHERE s.state = 'running'), 0) AS longest_s,
               min(s.started_at) FILTER (WHERE s.state = 'running') AS since
        FROM jobs.slices s WHERE s.job = j.id AND s.state IN ('queued', 'running')
    ) open LEFT JOIN LATERAL (
        SELECT extract(epoch FROM max(e.at) - min(e.at))
               / nullif(max(e.done) - min(e.done), 0) AS unit_s
        FROM (SELECT at, done FROM jobs.events
              WHERE job = j.id AND kind = 'progress' ORDER BY id DESC LIMIT {BEATS}) e
        WHERE e.at >= open.since
    ) pace ON open.running > 0
    ORDER BY j.place
""")  # noqa: S608 - joined from constants

_PAST = text(f"""
    SELECT asked.kind, past.total, past.seconds
    FROM unnest(CAST(:kinds AS varchar[])) AS asked (kind) CROSS JOIN LATERAL (
        SELECT j.total, j.seconds FROM jobs.jobs j
        WHERE j.kind = asked.kind AND j.state = 'succeeded' AND j.queue = ANY(:queues)
          AND j.seconds > 0
        ORDER BY j.finished_at DESC LIMIT {PASTS}
    ) past
""")  # noqa: S608 - joined from constants

Place = Row[Any]


def names(tx: Tx) -> list[str]:
    """The queues with unfinished work."""
    open_ = select(Job.queue).where(Job.finished_at.is_(None)).distinct().order_by(Job.queue)
    return list(tx.session.scalars(open_))


def view(tx: Tx, caller: Caller, queue: str, running_cap: int) -> QueueView:
    """The first `SHOWN` jobs of a queue in the order in which they are served."""
    rows, known = places(tx, queue, running_cap, SHOWN)
    return QueueView(
        queue=queue,
        workers=presence.count(tx, [queue]).workers,
        places=[_place(n, row, caller, known.get(row.id)) for n, row in enumerate(rows, 1)],
    )


def places(
    tx: Tx, queue: str, running_cap: int, limit: int
) -> tuple[Sequence[Place], dict[UUID, Estimate]]:
    """The first jobs of a queue as they are served, and what is expected of those that may run.

    Jobs of other queues whose workers share the device are in the reckoning.
    """
    rows: dict[str, Sequence[Place]] = {}
    for each in pool(queue):
        values = {"queue": each, "pool": pool(queue), "running_cap": running_cap, "limit": limit}
        rows[each] = tx.session.execute(_PLACES, values).all()
    moving = [r for part in rows.values() for r in part if r.state != "blocked"]
    moving.sort(key=lambda row: (row.created_at, row.id))
    return rows[queue], _estimates(tx, pool(queue), moving)


def _estimates(tx: Tx, queues: list[str], rows: Sequence[Place]) -> dict[UUID, Estimate]:
    past: dict[str, list[Past]] = defaultdict(list)
    kinds = sorted({row.kind for row in rows})
    for row in tx.session.execute(_PAST, {"kinds": kinds, "queues": queues}):
        past[row.kind].append(Past(row.total, row.seconds))
    owners = {
        row.owner: Owner(row.weight, float(row.load), float(row.owner_short_s), row.cap)
        for row in rows
    }
    up = {queue: presence.count(tx, [queue]) for queue in queues}
    workers = {queue: each.workers for queue, each in up.items()}
    at_once = presence.count(tx, queues)
    is_device = queues == list(ON_DEVICES)
    limit = at_once.devices if is_device else at_once.workers
    works = [_work(row, past[row.kind]) for row in rows]
    found = forecast(works, owners, workers, limit)
    return {row.id: each for row, each in zip(rows, found, strict=True)}


def _work(row: Place, past: Sequence[Past]) -> Work:
    reached = Reached(
        row.done,
        row.total,
        row.seconds + float(row.elapsed_s),
        None if row.unit_s is None else float(row.unit_s),
    )
    return Work(
        queue=row.queue,
        owner=row.owner,
        seconds=remaining_s(reached, past),
        parts=max(row.running + row.waiting, 1),
        running=row.running,
        elapsed_s=float(row.longest_s),
        priority=row.priority,
        short=row.short,
    )


def _place(number: int, row: Place, caller: Caller, est: Estimate | None) -> QueuePlace:
    yours = row.owner == caller.person and row.project == caller.project
    waits = row.state == "running" and not row.running
    return QueuePlace(
        place=number,
        yours=yours,
        job=row.id if yours else None,
        kind=row.kind if yours else None,
        state="queued" if waits else row.state,
        running=row.running,
        waiting=row.waiting,
        starts_in_s=_rounded(est and est.starts_in_s),
        ends_in_s=_rounded(est and est.ends_in_s),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
