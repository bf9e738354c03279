"""Whose turn it is: the order in which jobs are served, for workers and for people to see.

Priority first; then short jobs, as long as their owner's have used little of late; then the owner
who used least for their weight (seconds that decay by half in a day, and what runs right now);
then that owner's short jobs; then the job that this worker ran last, whose model is warm; then age.
Does not lease anything.
"""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

CANDIDATES = 16

SHORT_ALLOWANCE_S = 60.0
"""Short jobs go before everybody's long ones until those of their owner have used so much."""
SHORT_HALF_LIFE_S = 600.0
"""In this time half of what an owner's short jobs have used is forgotten."""

ON_DEVICES = ("generation", "training")
"""Queues whose workers take turns on the devices: what somebody used of one counts for both."""


def pool(queue: str) -> list[str]:
    """The queues among which a queue's workers share what they run on."""
    return list(ON_DEVICES if queue in ON_DEVICES else (queue,))


def decayed_soon(seconds: str, as_of: str) -> str:
    """The SQL of what is left of the `seconds` that short jobs have used."""
    halvings = f"greatest(extract(epoch FROM now() - {as_of}), 0) / {SHORT_HALF_LIFE_S}"
    return f"{seconds} * power(0.5::float8, least({halvings}, 60)::float8)"


# A part that has just begun counts as one second: else all workers that become free in one moment
# would go to one owner. One that seems to run for longer than any can is a clock that was moved.
# The recursion visits each owner once, where DISTINCT would read every unfinished job.
RUNS_S = "least(greatest(extract(epoch FROM now() - s.started_at), 1), 3600)"
OWNERS = f"""
    RECURSIVE active AS (
        (SELECT owner FROM jobs.jobs WHERE queue = :queue AND finished_at IS NULL
         ORDER BY owner LIMIT 1)
        UNION ALL
        SELECT (SELECT owner FROM jobs.jobs
                WHERE queue = :queue AND finished_at IS NULL AND owner > active.owner
                ORDER BY owner LIMIT 1)
        FROM active WHERE active.owner IS NOT NULL
    ), busy AS (
        SELECT j.owner,
               count(*) FILTER (WHERE j.queue = :queue) AS running,
               sum({RUNS_S}) AS seconds,
               sum({RUNS_S}) FILTER (WHERE j.short) AS short_seconds
        FROM jobs.slices s JOIN jobs.jobs j ON j.id = s.job
        WHERE s.state = 'running' AND j.queue = ANY(:pool)
        GROUP BY j.owner
    ), used AS (
        SELECT owner, sum(jobs.decayed(seconds, as_of)) AS seconds,
               sum({decayed_soon("short_seconds", "as_of")}) AS short_seconds
        FROM jobs.usage WHERE queue = ANY(:pool) GROUP BY owner
    ), owners AS (
        SELECT a.owner, share.weight, coalesce(busy.running, 0) AS running,
               (coalesce(used.seconds, 0) + coalesce(busy.seconds, 0))
                   / coalesce(share.weight, 1) AS load,
               coalesce(used.short_seconds, 0) + coalesce(busy.short_seconds, 0)
                   < {SHORT_ALLOWANCE_S} AS allowance,
               coalesce(used.short_seconds, 0) + coalesce(busy.short_seconds, 0) AS short_seconds,
               coalesce(share.running_cap, :running_cap) AS cap
        FROM active a
        LEFT JOIN busy ON busy.owner = a.owner
        LEFT JOIN used ON used.owner = a.owner
        LEFT JOIN jobs.shares share ON share.owner = a.owner
        WHERE a.owner IS NOT NULL
    )
"""  # noqa: S608 - joined from constants

# A subquery with a limit, not EXISTS: that would be made a join over all jobs of an owner.
_RUNNABLE = """
    j.finished_at IS NULL AND j.service = :service AND j.state IN ('queued', 'running')
    AND j.id <> ALL(CAST(:busy AS uuid[]))
    AND (CAST(:only AS uuid) IS NULL OR j.id = :only)
    AND (SELECT q.id FROM jobs.slices q
         WHERE q.job = j.id AND q.state = 'queued' AND q.not_before <= now() LIMIT 1) IS NOT NULL
    AND (NOT :off_device OR (
        SELECT j.kind || '/' || coalesce(q.payload ->> 'step', '') = ANY(:steps)
        FROM jobs.slices q WHERE q.job = j.id AND q.state = 'queued' AND q.not_before <= now()
        ORDER BY q.ordinal LIMIT 1))
"""

# Each owner's first two jobs, in the order of the index: a second worker finds another job than
# the one that a first has just locked. The scan of a materialized list keeps its order and ends
# with the first owner for whom nobody else claims at this moment; that one is then ours.
_TURNS = text(f"""
    WITH {OWNERS}, turns AS MATERIALIZED (
        SELECT head.id, o.owner, row_number() OVER (
            ORDER BY head.priority DESC, (head.short AND o.allowance) DESC, o.load,
                     head.short DESC, (head.id = :warm) DESC, head.created_at, head.id
        ) AS place
        FROM owners o CROSS JOIN LATERAL (
            (SELECT j.id, j.priority, j.short, j.created_at FROM jobs.jobs j
             WHERE j.queue = :queue AND j.owner = o.owner AND {_RUNNABLE}
             ORDER BY j.priority DESC, j.short DESC, j.created_at, j.id LIMIT 2)
            UNION
            SELECT j.id, j.priority, j.short, j.created_at FROM jobs.jobs j
            WHERE j.id = :warm AND j.queue = :queue AND j.owner = o.owner AND {_RUNNABLE}
        ) head
        WHERE o.running < o.cap
        ORDER BY place LIMIT :limit
    ), free AS MATERIALIZED (
        SELECT place FROM turns
        WHERE pg_try_advisory_xact_lock(hashtextextended(:claims || owner, 0)) LIMIT 1
    )
    SELECT turns.id, turns.owner, coalesce(turns.place = free.place, false) AS held
    FROM turns LEFT JOIN free ON true
    ORDER BY turns.place
""")  # noqa: S608 - joined from constants

_TRY_OWNER = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:claims || :owner, 0))")
_AWAIT_OWNER = text("SELECT pg_advisory_xact_lock(hashtextextended(:claims || :owner, 0))")

_OTHERS = text("""
    SELECT EXISTS (
        SELECT 1 FROM jobs.jobs j
        WHERE j.queue = ANY(:pool) AND j.state IN ('queued', 'running')
          AND (j.owner <> :owner OR (j.short AND NOT :short))
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
    off_device: tuple[str, ...] = ()
    """Slices that need no device, as `kind/step`: those that only keep books."""


@dataclass(frozen=True)
class Turn:
    job: UUID
    owner: UUID
    held: bool = False
    """Whether the owner is kept from other claims until the commit."""


@dataclass(frozen=True)
class Choice:
    """Among which work a worker chooses.

    `warm` is the job that it ran last. With `only` it goes on with that job; with `off_device` it
    takes what needs no device.
    """

    warm: UUID | None = None
    only: UUID | None = None
    off_device: bool = False


ALL = Choice()


def turns(
    session: Session, ask: Ask, choice: Choice = ALL, busy: Collection[UUID] = ()
) -> list[Turn]:
    """The jobs whose turn it is, the fairest first; of each owner at most two and the warm one.

    The first whose owner was to be had is held. Jobs in `busy` are passed over.
    """
    rows = session.execute(
        _TURNS,
        {
            "queue": ask.queue,
            "service": ask.service,
            "pool": pool(ask.queue),
            "running_cap": ask.running_cap,
            "warm": choice.warm or UUID(int=0),
            "only": choice.only,
            "off_device": choice.off_device,
            "steps": list(ask.off_device),
            "busy": [str(job) for job in busy],
            "limit": CANDIDATES,
            "claims": _claims(ask),
        },
    )
    return [Turn(row.id, row.owner, row.held) for row in rows]


def hold(session: Session, ask: Ask, turn: Turn, *, wait: bool) -> bool:
    """Keep the turn's owner from other claims until the commit; False when they are at it."""
    values = {"claims": _claims(ask), "owner": str(turn.owner)}
    if wait:
        session.execute(_AWAIT_OWNER, values)
        return True
    return turn.held or bool(session.scalar(_TRY_OWNER, values))


def _claims(ask: Ask) -> str:
    return f"claim:{ask.queue}:"


def others_wait(session: Session, ask: Ask, owner: UUID, *, short: bool) -> bool:
    """Whether there is work for which this worker's device should be left before long: that of
    anybody but `owner`, and short jobs of theirs unless this one is `short` itself.
    """
    values = {"pool": pool(ask.queue), "owner": owner, "short": short}
    return bool(session.scalar(_OTHERS, values))
