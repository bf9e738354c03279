"""When a plan has all it will ever get, its evaluation is submitted.

A run may fail for good: then its predictions never come, and are not waited for.
"""

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


def submit_if_complete(tx: Tx, jobs: Jobs, caller: Caller, row: Plan) -> None:
    """Call it under the plan's lock, after something has come or will not come any more."""
    plan = plans.plan_of(row)
    missing = {(a.arm, a.seed) for a in absent(tx.session, row)}
    sets = tx.session.scalars(select(Prediction).filter_by(plan=row.id)).all()
    awaited = [p for p in sets if (p.arm, p.seed) not in missing]
    total = plans.expected(plan) - len(missing) * len(plan.tests)
    if len(awaited) < total or row.job is not None:
        return
    row.job = jobs.submit(
        tx,
        NewJob(
            service="evaluation",
            kind=EVALUATE,
            queue=QUEUE,
            caller=caller,
            resource=row.id,
            inputs={"inputs": plans.inputs_digest(row.digest, awaited)},
            slices=[{}],
            total=total,
            unit=UNIT,
        ),
    )
