"""What evaluation keeps of a plan: which objects its rows name, and what of it can be deleted."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.evaluation.models import Evaluation, Prediction
from services.kit.collector import Named
from services.kit.db import Tx
from services.kit.deletion import Kept

PLAN = "plan"


def plan_folder(project: UUID, plan: UUID) -> str:
    return f"projects/{project}/plans/{plan}/"


def _forget(_: Session, plan: UUID) -> None:
    """Nothing: predictions hold a row a patient and reports show images, but both are objects.
    The plan, the digests and the numbers of a study that may be published stay on record.
    """


KEPT: Mapping[str, Kept] = {PLAN: Kept(plan_folder, _forget)}


def _named(tx: Tx, plan: UUID, _: Sequence[str]) -> set[str]:
    predictions = tx.session.scalars(select(Prediction.key).where(Prediction.plan == plan))
    reports = tx.session.scalars(select(Evaluation.report_key).where(Evaluation.plan == plan))
    return {*predictions, *reports}


NAMED: Mapping[str, Named] = {"plans": _named}
"""Which keys of a plan's folder its rows name."""
