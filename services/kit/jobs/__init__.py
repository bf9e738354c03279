"""Jobs and slices: Postgres knows the work, a Celery message is only a bell.

A job is what a person sees; a slice is what a worker leases. Everything that writes a job's
state is in this package; triggers in the database refuse any other move.
"""

from services.kit.jobs.endings import ending
from services.kit.jobs.leases import Lease, LeaseLost, Released
from services.kit.jobs.ledger import Jobs, NewJob
from services.kit.jobs.moves import WITH_WARNINGS
from services.kit.jobs.steps import StepUnknown, step_of

__all__ = [
    "WITH_WARNINGS",
    "Jobs",
    "Lease",
    "LeaseLost",
    "NewJob",
    "Released",
    "StepUnknown",
    "ending",
    "step_of",
]
