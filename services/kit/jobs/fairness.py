"""Whose turn it is: the order in which jobs are served, for workers and for people to see.

Priority first; then the owner who used least for their weight (seconds that decay by half in a
day, and what runs right now); then the job that this worker ran last, whose model is warm; then
age. Does not lease anything.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

CANDIDATES = 16

ON_DEVICES = ("generation", "training")
"""Queues whose workers take turns on the devices: what somebody used of one counts for both."""


def pool(queue: str) -> list[str]:
    """The queues among which a queue's workers share what they run on."""
    return list(ON_DEVICES if queue in ON_DEVICES else (queue,))


# A part that has just begun counts as one second: else all workers that become free in one moment
# would go to one owner. One that seems to run for longer than any can is a clock that was moved.
OWNERS = """
    busy AS (
        SELECT j.owner,
               count(*) FILTER (WHERE j.queue = :queue) AS running,
               sum(least(greatest(extract(epoch FROM now() - s.started_at), 1), 3600)) AS seconds
        FROM jobs.slices s JOIN jobs.jobs j ON j.id = s.job
        WHERE s.state = 'running' AND j.queue = ANY(:pool)
        GROUP BY j.owner
    ), used AS (
        SELECT owner, sum(jobs.decayed(seconds, as_of)) AS seconds
        FROM jobs.usage WHERE queue = ANY(:pool) GROUP BY owner
    ), owners AS (
        SELECT a.owner, share.weight, coalesce(busy.running, 0) AS running,
               (coalesce(used.seconds, 0) + coalesce(busy.seconds, 0))
                   / coalesce(share.weight, 1) AS load,
               coalesce(share.running_cap, :running_cap) AS cap
        FROM (SELECT DISTINCT owner FROM jobs.jobs
              WHERE queue = :queue AND finished_at IS NULL) a
        LEFT JOIN busy ON busy.owner = a.owner
        LEFT JOIN used ON used.owner = a.owner
        LEFT JOIN jobs.shares share ON share.owner = a.owner
    )
"""

# A subquery with a limit, not EXISTS: that would be made a join over all jobs of an owner.
_RUNNABLE = """
    j.finished_at IS NULL AND j.service = :service AND j.state IN ('queued', 'running')
    AND (SELECT q.id FROM jobs.slices q
         WHERE q.job = j.id AND q.state = 'queued' AND q.not_before <= now() LIMIT 1) IS NOT NULL
"""

# Each owner's first two jobs, in the order of the index: a second worker finds another job than
# the one that a first has just locked.
_NEXT = text(f"""
    WITH {OWNERS}
    SELECT head.id, o.owner
    FROM owners o CROSS JOIN LATERAL (
        (SELECT j.id, j.priority, j.created_at FROM jobs.jobs j
         WHERE j.queue = :queue AND j.owner = o.owner AND {_RUNNABLE}
         ORDER BY j.priority DESC, j.created_at, j.id LIMIT 2)
        UNION
        SELECT j.id, j.priority, j.created_at FROM jobs.jobs j
        WHERE j.id = :warm AND j.queue = :queue AND j.owner = o.owner AND {_RUNNABLE}
    ) head
    WHERE o.running < o.cap
    ORDER BY head.priority DESC, o.load, (head.id = :warm) DESC, head.created_at, head.id
    LIMIT :limit
""")  # noqa: S608 - joined from constants

# The snapshot of this statement is younger than that of the choice, and the owner is locked: the
# cap holds although many workers choose at once.
_JOB = """
    SELECT j.id, j.kind, j.queue, j.resource, j.owner, j.project, j.inputs, j.state
    FROM jobs.jobs j
    WHERE j.id = :job AND j.state IN ('queued', 'running')
      AND (SELECT count(*) FROM jobs.slices s JOIN jobs.jobs k ON k.id = s.job
           WHERE s.state = 'running' AND k.queue = j.queue AND k.owner = j.owner)
          < coalesce((SELECT running_cap FROM jobs.shares WHERE owner = j.owner), :running_cap)
    FOR NO KEY UPDATE OF j
"""
_AWAIT_JOB = text(_JOB)
_TRY_JOB = text(f"{_JOB} SKIP LOCKED")

_TRY_OWNER = text("""
    SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))
    FROM set_config('synchronous_commit', 'off', true)
""")
_AWAIT_OWNER = text("""
    SELECT true FROM pg_advisory_xact_lock(hashtextextended(:key, 0)),
                     set_config('synchronous_commit', 'off', true)
""")

_OTHERS = text("""
    SELECT EXISTS (
        SELECT 1 FROM jobs.jobs j
        WHERE j.queue = ANY(:pool) AND j.owner <> :owner AND j.state IN ('queued', 'running')
          AND EXISTS (SELECT 1 FROM jobs.slices q
                      WHERE q.job = j.id AND q.state = 'queued' AND q.not_before <= now())
    )
""")


@dataclass(frozen=True)
class Ask:
    """How a worker asks for work."""

    queue: str
    service: str
    worker: str
    running_cap: int
    lease_s: float = 60.0
    """After so long without a sign of life the slice is somebody else's."""
    about: str = "{}"
    """Device, driver and versions as a JSON object, kept with every attempt."""


@dataclass(frozen=True)
class Candidate:
    job: UUID
    owner: UUID


def candidates(session: Session, ask: Ask, warm: UUID | None) -> list[Candidate]:
    """The jobs whose turn it is, the fairest first; of each owner at most two."""
    rows = session.execute(
        _NEXT,
        {
            "queue": ask.queue,
            "service": ask.service,
            "pool": pool(ask.queue),
            "running_cap": ask.running_cap,
            "warm": warm or UUID(int=0),
            "limit": CANDIDATES,
        },
    )
    return [Candidate(row.id, row.owner) for row in rows]


def lock(session: Session, ask: Ask, candidate: Candidate, *, wait: bool) -> Row[Any] | None:
    """The candidate's row, locked, with its owner kept from other claims until the commit.

    None when it is not to be had: without `wait`, when somebody else is at it; else when its turn
    has passed. Should the server lose this commit in a crash, the slice is queued as it was, and
    the holder's writes find no lease: the commit need not wait for the disk.
    """
    key = {"key": f"claim:{ask.queue}:{candidate.owner}"}
    if not session.scalar(_AWAIT_OWNER if wait else _TRY_OWNER, key):
        return None
    values = {"job": candidate.job, "running_cap": ask.running_cap}
    return session.execute(_AWAIT_JOB if wait else _TRY_JOB, values).one_or_none()


def others_wait(session: Session, ask: Ask, owner: UUID) -> bool:
    """Whether anybody but `owner` has work that this worker's device could do now."""
    return bool(session.scalar(_OTHERS, {"pool": pool(ask.queue), "owner": owner}))
