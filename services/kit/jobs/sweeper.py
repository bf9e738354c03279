"""Every few seconds: requeue what a dead worker held, settle who waits, ring what is forgotten."""

from redis.exceptions import RedisError
from sqlalchemy import select, text

from services.kit.bell import Bell
from services.kit.db import Database
from services.kit.jobs.leases import CRASH_LIMIT, quarantine
from services.kit.jobs.ledger import settle
from services.kit.jobs.models import Job
from services.kit.logging import get_logger

log = get_logger(__name__)

_EXPIRED = text(
    "SELECT job FROM jobs.slices WHERE state = 'running' AND leased_until < now() GROUP BY job"
)

_LOCK_JOB = text("SELECT id FROM jobs.jobs WHERE id = :job FOR NO KEY UPDATE")

_TAKE_BACK = text("""
    UPDATE jobs.slices
    SET state = 'queued', lease = NULL, leased_until = NULL, crashes = crashes + 1
    WHERE job = :job AND state = 'running' AND leased_until < now()
    RETURNING id, crashes
""")

_RUNNABLE = text("""
    SELECT DISTINCT j.queue FROM jobs.jobs j
    WHERE j.state IN ('queued', 'running')
      AND EXISTS (SELECT 1 FROM jobs.slices s
                  WHERE s.job = j.id AND s.state = 'queued' AND s.not_before <= now())
""")


class Sweeper:
    """What makes a crash, a lost bell and a missed wake-up harmless."""

    def __init__(self, db: Database, bell: Bell) -> None:
        self._db = db
        self._bell = bell

    def sweep(self) -> None:
        self.take_back_expired()
        self.settle_blocked()
        self.ring_forgotten()

    def take_back_expired(self) -> None:
        with self._db.transaction() as tx:
            jobs = tx.session.scalars(_EXPIRED).all()
        for job in jobs:
            with self._db.transaction() as tx:
                tx.session.execute(_LOCK_JOB, {"job": job})
                for row in tx.session.execute(_TAKE_BACK, {"job": job}).all():
                    log.warning("lease expired", job=str(job), slice=row.id, crashes=row.crashes)
                    if row.crashes >= CRASH_LIMIT:
                        quarantine(tx, self._bell, job, row.id)

    def settle_blocked(self) -> None:
        with self._db.transaction() as tx:
            blocked = tx.session.scalars(select(Job.id).where(Job.state == "blocked")).all()
        for job in blocked:
            with self._db.transaction() as tx:
                settle(tx, self._bell, job)

    def ring_forgotten(self) -> None:
        with self._db.transaction() as tx:
            queues = tx.session.scalars(_RUNNABLE).all()
        for queue in queues:
            try:
                if self._bell.pending(queue) == 0:
                    self._bell.ring(queue)
            except RedisError as error:
                log.warning("the broker is away", queue=queue, error=type(error).__name__)
