"""One slice of one run in a worker's hands: what is asked, and where it stands."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from api_schemas.training import ExperimentRequest
from services.kit.jobs import Lease
from services.training.models import Run
from services.training.service.blueprint import Blueprint
from services.training.service.storing import run_prefix


@dataclass(frozen=True)
class Task:
    lease: Lease
    request: ExperimentRequest
    experiment: UUID
    plan: UUID
    blueprint: Blueprint
    run: Run

    @property
    def arm(self) -> str:
        return self.run.arm

    @property
    def seed(self) -> int:
        return self.run.seed

    def prefix(self, what: str) -> str:
        """The folder of the run's objects of some kind."""
        project = self.lease.caller.project
        return run_prefix(project, self.experiment, what, self.arm, self.seed)

    def row(self, session: Session) -> Run:
        """The run's row, to be written."""
        return session.get_one(Run, (self.experiment, self.arm, self.seed))
