"""What training keeps: which objects a row names, how it all goes, and what lies in scratch."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from services.kit.collector import Named
from services.kit.db import Database, Tx
from services.kit.deletion import Kept
from services.kit.jobs import lineage
from services.training.models import Classifier, Experiment, Run, Scoring
from services.training.ports.engine import PackedSources
from services.training.service.storing import experiment_folder, scoring_folder

EXPERIMENT, SCORING = "experiment", "scoring"


def _forget(session: Session, experiment: UUID) -> None:
    session.execute(delete(Classifier).where(Classifier.experiment == experiment))
    session.execute(delete(Run).where(Run.experiment == experiment))
    session.execute(delete(Experiment).where(Experiment.id == experiment))


def _forget_scoring(session: Session, scoring: UUID) -> None:
    session.execute(delete(Scoring).where(Scoring.id == scoring))


KEPT: Mapping[str, Kept] = {
    EXPERIMENT: Kept(experiment_folder, _forget),
    SCORING: Kept(scoring_folder, _forget_scoring),
}


def _named(tx: Tx, experiment: UUID, _: Sequence[str]) -> set[str]:
    files: list[dict[str, Any]] = []
    for run in tx.session.scalars(select(Run).where(Run.experiment == experiment)):
        files += run.predictions or []
        files += [file for checkpoint in run.checkpoints for file in checkpoint["files"]]
    for weights in tx.session.scalars(
        select(Classifier.files).where(Classifier.experiment == experiment)
    ):
        files += weights
    return {file["key"] for file in files}


def _named_of_scoring(tx: Tx, scoring: UUID, _: Sequence[str]) -> set[str]:
    file = tx.session.scalar(select(Scoring.predictions).where(Scoring.id == scoring))
    return set() if file is None else {file["key"]}


NAMED: Mapping[str, Named] = {"experiments": _named, "scorings": _named_of_scoring}
"""Which keys of a folder rows name."""


def tidy(db: Database, packed: PackedSources) -> None:
    """Remove packed images that no experiment and no scoring to come reads: what they were made
    from is deleted, or no longer needed. They are named by their manifest.
    """
    with db.transaction() as tx:
        blueprints = tx.session.scalars(
            select(Experiment.blueprint["manifests"])
            .where(Experiment.blueprint.is_not(None))
            .where(lineage.visible(Experiment.id))
        )
        read = {digest for manifests in blueprints for digest in manifests.values()}
        to_come = select(Scoring.manifest).where(Scoring.predictions.is_(None))
        read |= {*tx.session.scalars(to_come.where(lineage.visible(Scoring.id)))}
    packed.keep(lambda name: name.partition("-")[0] in read)
