"""What the worker does for an experiment: plan it, train each run in stretches, hand the scores on.

Knows an engine by its port; a slice is one stretch of one run.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api_schemas.base import DataRef, EvaluationSplit
from api_schemas.evaluation import PredictionsPost
from api_schemas.training import ExperimentRequest
from services.kit.db import Database, new_id
from services.kit.jobs import Lease, LeaseLost
from services.kit.logging import get_logger
from services.kit.objects import DigestMismatch, ObjectMissing, ObjectStore
from services.training.models import Classifier, Experiment, Run
from services.training.ports.engine import (
    CheckpointMismatchError,
    Engine,
    Outcome,
    RunSpec,
)
from services.training.ports.providers import Evaluation
from services.training.service.arms import expand
from services.training.service.blueprint import Blueprint
from services.training.service.catalogue import Catalogue
from services.training.service.experiments import adopt, run_slices
from services.training.service.failures import engine_problems
from services.training.service.materials import Held, Materials, run_spec
from services.training.service.planning import Planner
from services.training.service.samples import columns, truth
from services.training.service.storing import (
    Stored,
    fetch_folder,
    predictions,
    put,
    put_folder,
    run_prefix,
)

CHECKPOINTS_KEPT = 2

log = get_logger(__name__)


@dataclass(frozen=True)
class Task:
    """One slice of one run: what is asked, and where it stands."""

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
        project = self.lease.caller.project
        return run_prefix(project, self.experiment, what, self.arm, self.seed)


class RunExperiment:
    """The handler of experiment jobs."""

    def __init__(
        self,
        db: Database,
        store: ObjectStore,
        engine: Engine,
        catalogue: Catalogue,
        materials: Materials,
        evaluation: Evaluation,
        *,
        scratch: Path,
        stretch_s: float,
    ) -> None:
        self._db = db
        self._store = store
        self._engine = engine
        self._catalogue = catalogue
        self._materials = materials
        self._evaluation = evaluation
        self._scratch = scratch
        self._stretch_s = stretch_s

    def __call__(self, lease: Lease) -> None:
        if lease.payload["step"] == "plan":
            self._plan(lease)
        else:
            self._run(lease)

    def _plan(self, lease: Lease) -> None:
        """The data has just been finished: check it, and queue the runs."""
        request = ExperimentRequest.model_validate(lease.inputs)
        arms = expand(request)
        listed = self._catalogue.list_all(lease.caller, request, arms)
        blueprint = Planner(self._catalogue).plan(lease.caller, request, listed).blueprint
        with lease.finishing(more=run_slices(request, arms)) as tx:
            row = tx.session.get_one(Experiment, lease.resource)
            adopt(tx.session, row, request, blueprint)

    def _run(self, lease: Lease) -> None:
        task = self._task(lease)
        if task.run.predictions is None and not self._stretch(task):
            return
        self._hand_on(task)
        with lease.finishing() as tx:
            _run_row(tx.session, task).finished_at = datetime.now(UTC)

    def _task(self, lease: Lease) -> Task:
        with self._db.transaction() as tx:
            row = tx.session.get_one(Experiment, lease.resource)
            key = (row.id, lease.payload["arm"], lease.payload["seed"])
            return Task(
                lease=lease,
                request=ExperimentRequest.model_validate(row.request),
                experiment=row.id,
                plan=row.plan,
                blueprint=Blueprint.model_validate(row.blueprint),
                run=tx.session.get_one(Run, key),
            )

    # ------------------------------------------------------------ training

    def _stretch(self, task: Task) -> bool:
        """Train on; True when the run is trained, scored and stored, else its slice is done."""
        held = self._held(task)
        spec = run_spec(
            task.request,
            task.blueprint,
            task.arm,
            task.seed,
            held,
            self._materials.pretrained,
        )
        with self._folder() as folder:
            outcome = self._train(task, spec, folder)
            if outcome.classifier is None:
                self._pause(task, outcome)
                return False
            scores = self._score(task, outcome.classifier, held)
            self._keep(task, outcome, outcome.classifier, scores)
        return True

    def _held(self, task: Task) -> Callable[[DataRef, EvaluationSplit], Held]:
        lease, materials = task.lease, self._materials
        return lambda ref, split: materials.held(
            lease.caller, task.blueprint, ref, split, between=lease.stop_now
        )

    def _train(self, task: Task, spec: RunSpec, folder: Path) -> Outcome:
        deadline = time.monotonic() + self._stretch_s
        progress = self._progress(task)

        def pause() -> bool:
            return task.lease.should_pause() or time.monotonic() > deadline

        def train(resume: Path | None) -> Outcome:
            return self._engine.train(spec, folder, resume=resume, pause=pause, progress=progress)

        with engine_problems(f"Arm '{task.arm}', seed {task.seed}"):
            for number, checkpoint in enumerate(task.run.checkpoints):
                try:
                    files = cast("list[Stored]", checkpoint["files"])
                    return train(fetch_folder(self._store, files, folder / f"resume-{number}"))
                except (CheckpointMismatchError, DigestMismatch, ObjectMissing) as error:
                    log.warning("checkpoint unusable", step=checkpoint["step"], error=str(error))
                    task.lease.note(
                        f"{task.arm}, seed {task.seed}: the checkpoint of step "
                        f"{checkpoint['step']} was damaged; going on from the one before"
                    )
            return train(None)

    def _progress(self, task: Task) -> Callable[[int], None]:
        """Tell how far the whole job is, from how far this run is."""
        with self._db.transaction() as tx:
            of_experiment = Run.experiment == task.experiment
            total = tx.session.scalar(select(func.sum(Run.steps)).where(of_experiment)) or 0
            others = of_experiment & ((Run.arm != task.arm) | (Run.seed != task.seed))
            # A run that stopped early is done with all its steps.
            reached = func.coalesce(
                func.sum(Run.steps).filter(Run.predictions.is_not(None)), 0
            ) + func.coalesce(func.sum(Run.step).filter(Run.predictions.is_(None)), 0)
            done = tx.session.scalar(select(reached).where(others)) or 0
        message = f"{task.arm}, seed {task.seed}"

        def tell(step: int) -> None:
            task.lease.progress(float(done) + step, float(total), "steps", message)

        return tell

    def _pause(self, task: Task, outcome: Outcome) -> None:
        """Store the checkpoint, and leave the rest to a later slice (or to this one, released)."""
        lease = task.lease
        if lease.lost.is_set() or outcome.checkpoint is None:
            raise LeaseLost
        files = put_folder(self._store, task.prefix("checkpoints"), outcome.checkpoint)
        kept = [{"step": outcome.step, "files": files}, *task.run.checkpoints]
        stopping = lease.should_stop()
        more = [lease.payload]
        with lease.writing() if stopping else lease.finishing(more=more) as tx:
            row = _run_row(tx.session, task)
            row.step = outcome.step
            row.best_step = outcome.best_step
            row.validation_auroc = outcome.best_auroc
            row.checkpoints = kept[:CHECKPOINTS_KEPT]
        self._forget(kept[CHECKPOINTS_KEPT:])
        if stopping:
            lease.stop_now()

    # ------------------------------------------------------------ scores

    def _score(
        self,
        task: Task,
        classifier: Path,
        held: Callable[[DataRef, EvaluationSplit], Held],
    ) -> dict[str, bytes]:
        """Predictions as Parquet, by test set."""
        labels = task.blueprint.labels
        found: dict[str, bytes] = {}
        for test in task.request.tests:
            rows = held(test.data, test.split)
            found[test.name] = predictions(
                rows.samples.ids[rows.rows],
                rows.samples.patients[rows.rows],
                labels,
                truth(rows.labels)[:, columns(labels)],
                self._engine.score(classifier, rows.pixels, rows.everything),
            )
        return found

    def _keep(
        self, task: Task, outcome: Outcome, classifier: Path, scores: dict[str, bytes]
    ) -> None:
        """Store weights and predictions, so that the test sets are scored once, whatever comes."""
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
                    best_step=outcome.best_step or outcome.step,
                    validation_auroc=outcome.best_auroc,
                    digest=_weights_digest(weights),
                    files=cast("list[dict[str, Any]]", weights),
                )
            )
            row = _run_row(tx.session, task)
            row.step = outcome.step
            row.best_step = outcome.best_step
            row.validation_auroc = outcome.best_auroc
            row.classifier = made
            row.predictions = cast("list[dict[str, Any]]", scored)
            done_with, row.checkpoints = row.checkpoints, []
        self._forget(done_with)
        task.run.predictions = cast("list[dict[str, Any]]", scored)

    def _hand_on(self, task: Task) -> None:
        """Push the stored predictions to evaluation; what is there already does no harm."""
        files = cast("list[Stored]", task.run.predictions)
        for test, file in zip(task.request.tests, files, strict=True):
            task.lease.stop_now()
            what = PredictionsPost(plan=task.plan, arm=task.arm, seed=task.seed, test=test.name)
            content = self._store.get(file["key"], file["sha256"])
            self._evaluation.accept(task.lease.caller, what, content)

    # ------------------------------------------------------------ files

    @contextmanager
    def _folder(self) -> Generator[Path]:
        self._scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=self._scratch))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _forget(self, checkpoints: list[dict[str, Any]]) -> None:
        self._store.remove(f["key"] for each in checkpoints for f in each["files"])


def _run_row(session: Session, task: Task) -> Run:
    return session.get_one(Run, (task.experiment, task.arm, task.seed))


def _weights_digest(files: list[Stored]) -> str:
    return next(f["sha256"] for f in files if f["name"].endswith(".safetensors"))
