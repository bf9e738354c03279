"""When a plan has all it will ever get, its evaluation is submitted.

A run may fail for good: then its predictions never come, and are not waited for.
"""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.evaluation.models import Absence, Plan, Prediction
from services.evaluation.service import plans
from services.kit.auth import Caller
from services.kit.db import Tx
from services.kit.jobs import Jobs, NewJob

QUEUE = "evaluation"
EVALUATE = "evaluate"
UNIT = "prediction sets"


def absent(session: Session, row: Plan) -> list[Absence]:
    """The runs whose predictions will never come, in the order in which that was told."""
    of_plan = select(Absence).filter_by(plan=row.id)
    return list(session.scalars(of_plan.order_by(Absence.created_at, Absence.arm, Absence.seed)))


def sets_of(session: Session, row: Plan, missing: Sequence[Absence]) -> list[Prediction]:
    """The sets of a plan but those of runs that failed."""
    failed = {(a.arm, a.seed) for a in missing}
    sets = session.scalars(select(Prediction).filter_by(plan=row.id))
    return [p for p in sets if (p.arm, p.seed) not in failed]


def submit_if_complete(tx: Tx, jobs: Jobs, caller: Caller, row: Plan) -> None:
    """Call it under the plan's lock, after something has come or will not come any more."""
    plan = plans.plan_of(row)
    missing = absent(tx.session, row)
    awaited = sets_of(tx.session, row, missing)
    total = plans.expected(plan) - len(missing) * len(plan.tests)
    if len(awaited) < total or row.job is not None:
        return
    submit(tx, jobs, caller, row, awaited)


def submit(tx: Tx, jobs: Jobs, caller: Caller, row: Plan, sets: Sequence[Prediction]) -> None:
    """Queue the evaluation of these sets; call it under the plan's lock."""
    row.job = jobs.submit(
        tx,
        NewJob(
            service="evaluation",
            kind=EVALUATE,
            short=True,
            queue=QUEUE,
            caller=caller,
            resource=row.id,
            inputs={"inputs": plans.inputs_digest(row.digest, sets)},
            slices=[{}],
            total=len(sets),
            unit=UNIT,
        ),
    )
