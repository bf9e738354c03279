"""What the worker does for an experiment: plan it, train each run in stretches, hand the scores on.

Knows an engine by its port; a slice is one stretch of one run. A run that fails for good is put on
record and the others go on: the experiment fails when all its runs have.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import func, select

from api_schemas.base import Problem
from api_schemas.evaluation import AbsencePost
from api_schemas.training import ExperimentRequest
from services.kit.db import Database
from services.kit.errors import ProblemError, RemoteProblem
from services.kit.jobs import Lease, LeaseLost, step_of
from services.kit.logging import get_logger
from services.kit.objects import DigestMismatch, ObjectMissing, ObjectStore
from services.kit.scratch import temporary_folder
from services.training.models import Experiment, Run
from services.training.ports.engine import CheckpointMismatchError, Engine, Outcome
from services.training.ports.providers import Evaluation
from services.training.ports.tracking import Nowhere, TrackedRun, Tracking
from services.training.service import speeds
from services.training.service.arms import expand
from services.training.service.blueprint import Blueprint
from services.training.service.catalogue import Catalogue
from services.training.service.experiments import adopt, particulars_of, run_slices
from services.training.service.failures import BatchTooLarge, TrainingDiverged, engine_problems
from services.training.service.materials import ImageDamaged, Materials, run_spec
from services.training.service.pace import Pace
from services.training.service.planning import Planner
from services.training.service.results import Results, forget
from services.training.service.reuse import Reuse
from services.training.service.storing import Stored, fetch_folder, put_folder
from services.training.service.tasks import Task

CHECKPOINTS_KEPT = 2

OF_ONE_RUN = (TrainingDiverged, BatchTooLarge, ImageDamaged)
"""Problems that end a run for good and say nothing of the others."""

log = get_logger(__name__)


class RunExperiment:
    """The handler of experiment jobs, on the device called `device`."""

    def __init__(
        self,
        db: Database,
        store: ObjectStore,
        engine: Engine,
        catalogue: Catalogue,
        materials: Materials,
        evaluation: Evaluation,
        *,
        device: str,
        scratch: Path,
        stretch_s: float,
        tracking: Tracking | None = None,
    ) -> None:
        self._tracking = tracking or Nowhere()
        self._db = db
        self._store = store
        self._engine = engine
        self._catalogue = catalogue
        self._materials = materials
        self._evaluation = evaluation
        self._results = Results(store, engine, materials, evaluation)
        self._reuse = Reuse(db, store, catalogue, self._results)
        self._device = device
        self._scratch = scratch
        self._stretch_s = stretch_s

    def __call__(self, lease: Lease) -> None:
        if step_of(lease, "plan", "run") == "plan":
            self._plan(lease)
        else:
            self._run(self._task(lease))

    def _plan(self, lease: Lease) -> None:
        """The data has just been finished: check it, tell evaluation, and queue the runs."""
        request = ExperimentRequest.model_validate(lease.inputs)
        arms = expand(request)
        listed = self._catalogue.list_all(lease.caller, request, arms)
        blueprint = Planner(self._catalogue).plan(lease.caller, request, listed).blueprint
        with self._db.transaction() as tx:
            plan = tx.session.get_one(Experiment, lease.resource).plan
        self._evaluation.detail(lease.caller, plan, particulars_of(request, arms, blueprint))
        with lease.finishing(more=run_slices(request, blueprint, arms)) as tx:
            row = tx.session.get_one(Experiment, lease.resource)
            adopt(tx.session, row, request, blueprint, arms)

    def _run(self, task: Task) -> None:
        try:
            if task.run.problem is None:
                if task.run.predictions is None and not self._stretch(task):
                    return
                self._results.hand_on(task)
        except OF_ONE_RUN as error:
            self._fail(task, error)
        if task.run.problem is not None:
            self._tell_failed(task)
        with task.lease.finishing(more=_following(task)) as tx:
            if task.run.problem is None:
                task.row(tx.session).finished_at = datetime.now(UTC)

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

    # ------------------------------------------------------------ failing

    def _fail(self, task: Task, error: ProblemError) -> None:
        """Put on record why the run failed, before anybody is told."""
        log.info("run failed", arm=task.arm, seed=task.seed, problem=error.problem.type)
        problem = error.problem.model_dump(mode="json")
        with task.lease.writing() as tx:
            row = task.row(tx.session)
            row.problem = problem
            done_with, row.checkpoints = row.checkpoints, []
        forget(self._store, done_with)
        task.run.problem = problem

    def _tell_failed(self, task: Task) -> None:
        """Evaluation waits for this run no more. The last of all to fail fails the experiment."""
        problem = Problem.model_validate(task.run.problem)
        with self._db.transaction() as tx:
            others = select(func.count()).where(
                Run.experiment == task.experiment, Run.problem.is_(None)
            )
            alone = not tx.session.scalar(others)
        if alone:
            raise RemoteProblem(problem)
        reason = problem.detail or problem.title
        task.lease.note(f"{task.arm}, seed {task.seed} failed: {reason}")
        absence = AbsencePost(arm=task.arm, seed=task.seed, reason=reason[:1000])
        self._evaluation.forgo(task.lease.caller, task.plan, absence)

    # ------------------------------------------------------------ training

    def _stretch(self, task: Task) -> bool:
        """Train on; True when the run is trained, scored and stored, else its slice is done."""
        with temporary_folder(self._scratch, "run-") as folder:
            if not task.run.checkpoints and self._reuse.instead(task, folder):
                return True
            pace = self._pace(task)
            outcome = self._train(task, pace, folder)
            classifier = outcome.classifier
            self._track(task, outcome)
            if classifier is None:
                self._pause(task, outcome)
                return False
            scores = {
                test.name: self._results.score(task, test, classifier)
                for test in task.request.tests
            }
            self._results.keep(task, _facts(outcome), classifier, scores)
        self._note_speed(task, pace)
        return True

    def _train(self, task: Task, pace: Pace, folder: Path) -> Outcome:
        spec = run_spec(
            task.request,
            task.blueprint,
            task.arm,
            task.seed,
            self._results.held(task),
            self._materials.pretrained,
        )
        deadline = time.monotonic() + self._stretch_s

        def pause() -> bool:
            return task.lease.should_pause() or time.monotonic() > deadline

        def progress(step: int) -> None:
            words = f"{task.arm}, seed {task.seed}{pace.step(step)}"
            task.lease.progress(pace.before + step, pace.total, "steps", words)

        def train(resume: Path | None) -> Outcome:
            return self._engine.train(spec, folder, resume=resume, pause=pause, progress=progress)

        with engine_problems(f"Arm '{task.arm}', seed {task.seed}"):
            return self._from_newest(task, folder, train)

    def _from_newest(
        self, task: Task, folder: Path, train: Callable[[Path | None], Outcome]
    ) -> Outcome:
        """Train from the newest checkpoint that can be used, else from the beginning."""
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

    def _pace(self, task: Task) -> Pace:
        """Of the whole job, from how far its other runs are."""
        with self._db.transaction() as tx:
            of_experiment = Run.experiment == task.experiment
            total = tx.session.scalar(select(func.sum(Run.steps)).where(of_experiment)) or 0
            others = of_experiment & ((Run.arm != task.arm) | (Run.seed != task.seed))
            # A run that stopped early, or failed, is done with all its steps.
            ended = Run.predictions.is_not(None) | Run.problem.is_not(None)
            reached = func.coalesce(func.sum(Run.steps).filter(ended), 0) + func.coalesce(
                func.sum(Run.step).filter(~ended), 0
            )
            done = tx.session.scalar(select(reached).where(others)) or 0
        return Pace(float(total), float(done))

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
            row = task.row(tx.session)
            for name, value in _facts(outcome).items():
                setattr(row, name, value)
            row.checkpoints = kept[:CHECKPOINTS_KEPT]
        forget(self._store, kept[CHECKPOINTS_KEPT:])
        if stopping:
            lease.stop_now()

    def _track(self, task: Task, outcome: Outcome) -> None:
        """Mirror the curve as it is by now, where the installation has a tracking server."""
        run = TrackedRun(
            key=f"{task.experiment}/{task.arm}/{task.seed}",
            experiment=f"{task.request.name} ({task.experiment})",
            name=f"{task.arm}, seed {task.seed}",
            parameters={
                "arm": task.arm,
                "seed": str(task.seed),
                "steps": str(task.run.steps),
                "inputs": task.run.inputs_digest or "",
                **{k: str(v) for k, v in task.request.classifier.model_dump(mode="json").items()},
            },
        )
        self._tracking.log(run, [asdict(p) for p in outcome.curve], ended=outcome.finished)

    def _note_speed(self, task: Task, pace: Pace) -> None:
        step_s = pace.step_s
        if step_s is None:
            return
        configured = speeds.configuration(task.request.classifier, task.blueprint.size_px)
        with self._db.transaction() as tx:
            speeds.note_step(tx.session, task.lease.caller, configured, self._device, step_s)


def _facts(outcome: Outcome) -> dict[str, Any]:
    """What a run's row says of how far it came."""
    return {
        "step": outcome.step,
        "best_step": outcome.best_step,
        "validation_auroc": outcome.best_auroc,
        "curve": [asdict(point) for point in outcome.curve],
    }


def _following(task: Task) -> list[dict[str, Any]]:
    """Slices of the arms that are the same as this one: their turn has come."""
    return [
        {"step": "run", "arm": arm, "seed": task.seed}
        for arm in task.lease.payload.get("twins", [])
    ]
