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
from services.training.models import Classifier, Experiment, Run
from services.training.ports.engine import PackedSources
from services.training.service.storing import experiment_folder

EXPERIMENT = "experiment"


def _forget(session: Session, experiment: UUID) -> None:
    session.execute(delete(Classifier).where(Classifier.experiment == experiment))
    session.execute(delete(Run).where(Run.experiment == experiment))
    session.execute(delete(Experiment).where(Experiment.id == experiment))


KEPT: Mapping[str, Kept] = {EXPERIMENT: Kept(experiment_folder, _forget)}


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


NAMED: Mapping[str, Named] = {"experiments": _named}
"""Which keys of an experiment's folder its rows name."""


def tidy(db: Database, packed: PackedSources) -> None:
    """Remove packed images that no experiment reads: what they were made from is deleted, or no
    longer needed. They are named by their manifest.
    """
    with db.transaction() as tx:
        blueprints = tx.session.scalars(
            select(Experiment.blueprint["manifests"])
            .where(Experiment.blueprint.is_not(None))
            .where(lineage.visible(Experiment.id))
        )
        read = {digest for manifests in blueprints for digest in manifests.values()}
    packed.keep(lambda name: name.partition("-")[0] in read)
