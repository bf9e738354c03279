"""What evaluation keeps of a plan: which objects its rows name, and what of it can be deleted."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from services.evaluation.models import (
    Evaluation,
    Export,
    FeatureTable,
    Judgement,
    Overlap,
    Prediction,
    Quality,
    Redaction,
)
from services.kit.collector import Named
from services.kit.db import Tx
from services.kit.deletion import Kept

PLAN, OVERLAP, EXPORT, QUALITY = "plan", "overlap", "export", "quality"
EVALUATION, FEATURES = "evaluation", "features"


def plan_folder(project: UUID, plan: UUID) -> str:
    return f"projects/{project}/plans/{plan}/"


def evaluation_folder(project: UUID, evaluation: UUID) -> str:
    return f"projects/{project}/evaluations/{evaluation}/"


def features_folder(project: UUID, table: UUID) -> str:
    return f"projects/{project}/features/{table}/"


def _forget(_: Session, plan: UUID) -> None:
    """Nothing: predictions hold a row a patient and reports show images, but both are objects.
    The plan, the digests and the numbers of a study that may be published stay on record.
    """


def _forget_overlap(session: Session, overlap: UUID) -> None:
    """It lists samples of the data by name."""
    session.execute(delete(Overlap).where(Overlap.id == overlap))


def _forget_export(session: Session, export: UUID) -> None:
    session.execute(delete(Export).where(Export.id == export))


def _forget_quality(session: Session, quality: UUID) -> None:
    session.execute(delete(Quality).where(Quality.id == quality))


def _forget_evaluation(session: Session, evaluation: UUID) -> None:
    session.execute(delete(Judgement).where(Judgement.id == evaluation))


def _forget_features(session: Session, table: UUID) -> None:
    session.execute(delete(FeatureTable).where(FeatureTable.id == table))


KEPT: Mapping[str, Kept] = {
    PLAN: Kept(plan_folder, _forget),
    OVERLAP: Kept(lambda project, id_: f"projects/{project}/overlaps/{id_}/", _forget_overlap),
    EXPORT: Kept(lambda project, id_: f"projects/{project}/exports/{id_}/", _forget_export),
    QUALITY: Kept(lambda project, id_: f"projects/{project}/qualities/{id_}/", _forget_quality),
    EVALUATION: Kept(evaluation_folder, _forget_evaluation),
    FEATURES: Kept(features_folder, _forget_features),
}
"""Overlaps, exports and qualities keep no objects: their folders are empty."""


def _named(tx: Tx, plan: UUID, _: Sequence[str]) -> set[str]:
    predictions = tx.session.scalars(select(Prediction.key).where(Prediction.plan == plan))
    reports = tx.session.scalars(select(Evaluation.report_key).where(Evaluation.plan == plan))
    redacted = tx.session.scalars(
        select(Redaction.report_key).join(Evaluation).where(Evaluation.plan == plan)
    )
    return {*predictions, *reports, *redacted}


def _named_of_evaluation(tx: Tx, evaluation: UUID, _: Sequence[str]) -> set[str]:
    files = tx.session.scalar(select(Judgement.files).where(Judgement.id == evaluation)) or {}
    return {file["key"] for file in files.values()}


def _named_of_features(tx: Tx, table: UUID, _: Sequence[str]) -> set[str]:
    return {*tx.session.scalars(select(FeatureTable.key).where(FeatureTable.id == table))}


NAMED: Mapping[str, Named] = {
    "plans": _named,
    "evaluations": _named_of_evaluation,
    "features": _named_of_features,
}
"""Which keys of a folder rows name."""
