"""Results of a plan computed anew: because the method changed, or to see that they are the same.

A recomputation is the plan's evaluation once more. What it finds by another method, from other
inputs or with other libraries is a further version and supersedes; what it finds the same way must
be what is on record, and then nothing is written.
"""

from uuid import UUID

from sqlalchemy import select

from api_schemas.base import JobState, Page
from api_schemas.evaluation import VersionView
from services.evaluation.models import Evaluation
from services.evaluation.service import plans
from services.evaluation.service.completion import absent, sets_of, submit
from services.evaluation.service.problems import NothingToRecompute
from services.evaluation.views import version_view
from services.kit.auth import Caller
from services.kit.db import Database
from services.kit.http import page
from services.kit.jobs import Jobs, lineage


class Recomputations:
    """The versions of a plan's results in the caller's project."""

    def __init__(self, db: Database, jobs: Jobs) -> None:
        self._db = db
        self._jobs = jobs

    def order(self, caller: Caller, plan: UUID) -> None:
        """Queue the evaluation again; one that is under way will do, a crashed one is retried.

        Raises `NothingToRecompute` (409) before the first, `PlanClosed` (409) for what is deleted.
        """
        with self._db.transaction() as tx:
            lineage.share(tx.session, caller.project)
            row = plans.find_open(tx.session, caller, plan, lock=True)
            if row.job is None:
                raise NothingToRecompute("Its first evaluation starts with its last predictions")
            state = self._jobs.view(tx, row.job).state
            if state is JobState.QUARANTINED:
                self._jobs.retry(tx, row.job)
            elif state.terminal:
                sets = sets_of(tx.session, row, absent(tx.session, row))
                submit(tx, self._jobs, caller, row, sets)

    def versions(
        self, caller: Caller, plan: UUID, cursor: str | None, limit: int
    ) -> Page[VersionView]:
        """All that were ever computed, the newest first."""
        with self._db.transaction() as tx:
            row = plans.find(tx.session, caller, plan)
            return page(
                tx.session,
                select(Evaluation).filter_by(plan=row.id),
                Evaluation.version,
                cursor,
                limit,
                lambda rows: [version_view(each) for each in rows],
                newest_first=True,
            )
