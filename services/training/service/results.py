"""What a finished run leaves behind: weights, predictions, and both handed on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from api_schemas.base import DataRef, EvaluationSplit
from api_schemas.evaluation import PredictionsPost
from api_schemas.training import TestSet
from services.kit.db import new_id
from services.kit.objects import ObjectStore
from services.training.models import Classifier
from services.training.ports.engine import Engine
from services.training.ports.providers import Evaluation
from services.training.service.materials import Held, Materials
from services.training.service.samples import columns, truth
from services.training.service.storing import Stored, predictions, put, put_folder
from services.training.service.tasks import Task

Facts = Mapping[str, Any]
"""Columns of a run's row: how far it came and what was best."""


class Results:
    """Scores test sets once, whatever comes; stores, and pushes to evaluation."""

    def __init__(
        self, store: ObjectStore, engine: Engine, materials: Materials, evaluation: Evaluation
    ) -> None:
        self._store = store
        self._engine = engine
        self._materials = materials
        self._evaluation = evaluation

    def held(self, task: Task) -> Callable[[DataRef, EvaluationSplit], Held]:
        """Some split of some data of a run, as its blueprint knows it."""
        lease = task.lease
        return lambda ref, split: self._materials.held(
            lease.caller, task.blueprint, ref, split, between=lease.stop_now
        )

    def score(self, task: Task, test: TestSet, classifier: Path) -> bytes:
        """Predictions on a test set as Parquet."""
        labels = task.blueprint.labels
        rows = self.held(task)(test.data, test.split)
        return predictions(
            rows.samples.ids[rows.rows],
            rows.samples.patients[rows.rows],
            labels,
            truth(rows.labels)[:, columns(labels)],
            self._engine.score(classifier, rows.pixels, rows.everything),
        )

    def keep(self, task: Task, facts: Facts, classifier: Path, scores: Mapping[str, bytes]) -> None:
        """Store weights and predictions; `facts` go into the run's row with them."""
        weights = put_folder(self._store, task.prefix("classifiers"), classifier)
        scored = [
            put(self._store, task.prefix("predictions"), f"{test.name}.parquet", scores[test.name])
            for test in task.request.tests
        ]
        made = new_id()
        with task.lease.writing() as tx:
            tx.session.add(
                Classifier(
                    id=made,
                    project=task.lease.caller.project,
                    owner=task.lease.caller.person,
                    experiment=task.experiment,
                    arm=task.arm,
                    seed=task.seed,
                    labels=list(task.blueprint.labels),
                    size_px=task.blueprint.size_px,
                    best_step=facts["best_step"] or facts["step"],
                    validation_auroc=facts["validation_auroc"],
                    digest=_weights_digest(weights),
                    files=cast("list[dict[str, Any]]", weights),
                )
            )
            row = task.row(tx.session)
            for name, value in facts.items():
                setattr(row, name, value)
            row.classifier = made
            row.predictions = cast("list[dict[str, Any]]", scored)
            done_with, row.checkpoints = row.checkpoints, []
        forget(self._store, done_with)
        task.run.predictions = cast("list[dict[str, Any]]", scored)
        task.run.step, task.run.best_step = facts["step"], facts["best_step"]

    def hand_on(self, task: Task) -> None:
        """Push the stored predictions to evaluation; what is there already does no harm."""
        files = cast("list[Stored]", task.run.predictions)
        for test, file in zip(task.request.tests, files, strict=True):
            task.lease.stop_now()
            what = PredictionsPost(
                plan=task.plan,
                arm=task.arm,
                seed=task.seed,
                test=test.name,
                steps=task.run.step,
                best_step=task.run.best_step,
            )
            content = self._store.get(file["key"], file["sha256"])
            self._evaluation.accept(task.lease.caller, what, content)


def forget(store: ObjectStore, checkpoints: list[dict[str, Any]]) -> None:
    """Remove the objects of checkpoints that no row names any more."""
    store.remove(f["key"] for each in checkpoints for f in each["files"])


def _weights_digest(files: list[Stored]) -> str:
    return next(f["sha256"] for f in files if f["name"].endswith(".safetensors"))
