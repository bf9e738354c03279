"""Why a job waits, in words, with names; what runs in other projects is not named."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text

from services.kit.db import Tx
from services.kit.jobs import presence
from services.kit.jobs.endings import noun
from services.kit.jobs.fairness import ON_DEVICES, pool
from services.kit.jobs.models import Job
from services.kit.jobs.queue import Place, places

LOOKED_AT = 50
"""So many jobs of a queue are counted."""
NAMED = 3
"""So many of the jobs that another one waits for are named."""
DAY_S = 20 * 3600

VERBS = {
    "train-generator": "trains",
    "experiment": "trains",
    "generate": "draws",
    "screen-generation": "screens",
    "score": "scores with",
    "ingest": "imports",
    "delete": "deletes",
}
"""What a worker does in a job of some kind, where that has a word of its own."""

_AWAITED = text("""
    SELECT w.job, j.id, j.kind, j.state, j.done, j.total, r.kind AS made, r.name
    FROM jobs.waits w JOIN jobs.jobs j ON j.id = w.awaited
    LEFT JOIN jobs.resources r ON r.id = j.resource
    WHERE w.job = ANY(:jobs) AND j.state <> 'succeeded' ORDER BY w.job, j.id
""")

_AT_WORK = text("""
    SELECT j.id, j.kind, j.project, r.kind AS made, r.name
    FROM jobs.slices s JOIN jobs.jobs j ON j.id = s.job
    LEFT JOIN jobs.resources r ON r.id = j.resource
    WHERE s.state = 'running' AND j.queue = ANY(:queues) ORDER BY s.started_at
""")

_AGAIN = text("""
    SELECT s.job, extract(epoch FROM min(s.not_before) - now()) AS wait_s, max(a.reason) AS reason
    FROM jobs.slices s LEFT JOIN jobs.attempts a ON a.slice = s.id AND a.number = s.attempts
    WHERE s.job = ANY(:jobs) AND s.state = 'queued'
    GROUP BY s.job HAVING min(s.not_before) > now()
""")


def reasons(tx: Tx, rows: Sequence[Job], running_cap: int) -> dict[UUID, str]:
    """Why each of these jobs, which nobody works on, waits."""
    blocked = [row.id for row in rows if row.state == "blocked"]
    others = [row for row in rows if row.state != "blocked"]
    told = _for_others(tx, blocked) if blocked else {}
    if others:
        again = {
            row.job: f"{row.reason or 'put off'}; tried again at {_about(row.wait_s)}"
            for row in tx.session.execute(_AGAIN, {"jobs": [row.id for row in others]})
        }
        named = {row.queue for row in others}
        queues = {queue: _Queue(tx, queue, running_cap) for queue in named}
        told |= {row.id: again.get(row.id) or queues[row.queue].reason(row) for row in others}
    return told


def _for_others(tx: Tx, jobs: list[UUID]) -> dict[UUID, str]:
    """`waits for cohort 'X', 62 % done`."""
    awaited: dict[UUID, list[str]] = {}
    for row in tx.session.execute(_AWAITED, {"jobs": jobs}):
        awaited.setdefault(row.job, []).append(f"{_name(row)}, {_standing(row)}")
    return {job: f"waits for {_few(each)}" for job, each in awaited.items()}


def _few(names: Sequence[str]) -> str:
    rest = len(names) - NAMED
    return "; ".join(names[:NAMED]) + (f"; and {rest} more" if rest > 0 else "")


def _standing(row: Row[Any]) -> str:
    if row.state == "quarantined":
        return "which is quarantined until somebody retries it"
    if row.total and row.done:
        return f"{min(100 * row.done / row.total, 99):.0f} % done"
    return "which has not begun" if row.state in {"blocked", "queued"} else "which has begun"


class _Queue:
    """A queue as it stands, looked at once for all jobs that wait in it."""

    def __init__(self, tx: Tx, queue: str, running_cap: int) -> None:
        self._name = queue
        self._up = presence.count(tx, [queue]).workers
        self._at_work = tx.session.execute(_AT_WORK, {"queues": pool(queue)}).all()
        self._places, self._estimates = places(tx, queue, running_cap, LOOKED_AT)

    def reason(self, row: Job) -> str:
        if not self._up:
            return f"no worker of the queue '{self._name}' is up"
        estimate = self._estimates.get(row.id)
        starts_s = None if estimate is None else estimate.starts_in_s
        busy = next((each for each in self._at_work if each.id != row.id), None)
        if busy is None:
            return "a worker is about to take it"
        before = self._before(row)
        what = self._says(busy, row.project)
        if before is None:
            return f"{what}; more than {LOOKED_AT} jobs go before this one"
        if before:
            jobs = "one job goes" if before == 1 else f"{before} jobs go"
            return f"{what}; {jobs} before this one{_begins(starts_s)}"
        return what if starts_s is None else f"{what} until {_about(starts_s)}"

    def _before(self, row: Job) -> int | None:
        """How many jobs go before this one, without those that are being worked on."""
        waiting = [p.id for p in self._places if _waits(p) or p.id == row.id]
        return waiting.index(row.id) if row.id in waiting else None

    def _says(self, busy: Row[Any], project: UUID) -> str:
        who = "the device" if self._name in ON_DEVICES else "the worker"
        if busy.project != project:
            return f"{who} works for another project"
        return f"{who} {VERBS.get(busy.kind, 'works on')} {_name(busy)}"


def _waits(place: Place) -> bool:
    return place.state != "blocked" and not place.running


def _name(row: Row[Any]) -> str:
    kind = row.kind if row.made is None else noun(row.made)
    return f"{kind} '{row.name}'" if row.name else f"another {kind}"


def _begins(starts_s: float | None) -> str:
    return "" if starts_s is None else f"; it begins at {_about(starts_s)}"


def _about(seconds: float) -> str:
    """`about 20:16 UTC`, by the clock of this process."""
    when = datetime.now().astimezone() + timedelta(seconds=float(seconds))
    return f"about {when:%H:%M %Z}" if seconds < DAY_S else f"about {when:%d %B, %H:%M %Z}"
