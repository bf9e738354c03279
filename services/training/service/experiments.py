"""What people do with experiments: ask for one, look, cancel."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from api_schemas.arms import Arm
from api_schemas.base import DataRef, DatasetRef, GenerationRef, Page
from api_schemas.evaluation import (
    ContactSheet,
    ParticularsPost,
    PlannedTest,
    PlanPost,
    TrainedArm,
    TrainingNote,
)
from api_schemas.training import (
    ArmView,
    ClassifierView,
    CurvePoint,
    ExperimentRequest,
    ExperimentView,
)
from services.kit.auth import Caller
from services.kit.db import Database, new_id
from services.kit.errors import NotFound
from services.kit.http import earlier, once, page
from services.kit.jobs import Jobs, NewJob, lineage
from services.kit.jobs.lineage import Made
from services.training.models import Classifier, Experiment, Run
from services.training.ports.providers import Desk
from services.training.reports import Curve, Curves
from services.training.service import checks
from services.training.service.arms import (
    contrasts_of,
    expand,
    planned_arms,
    primary_of,
    questions_of,
    reference_of,
    sources,
    synthetic_datasets,
)
from services.training.service.blueprint import Blueprint
from services.training.service.catalogue import Catalogue, ref_of, references
from services.training.service.inputs import digests
from services.training.service.keeping import EXPERIMENT
from services.training.service.origins import Origins
from services.training.service.planning import Planner
from services.training.views import arm_views, classifier_view, experiment_view

QUEUE = SERVICE = "training"
KIND = "experiment"
UNCHECKED = "leakage: allowed before it could be checked; the data was still in the making"


class ExperimentUnknown(NotFound):
    pass


class ClassifierUnknown(NotFound):
    pass


class Experiments:
    """The use cases of the web process. Reads manifests, never images."""

    def __init__(self, db: Database, jobs: Jobs, catalogue: Catalogue, evaluation: Desk) -> None:
        self._db = db
        self._jobs = jobs
        self._catalogue = catalogue
        self._planner = Planner(catalogue)
        self._origins = Origins(catalogue)
        self._evaluation = evaluation

    def create(
        self, caller: Caller, request: ExperimentRequest, idempotency_key: str | None
    ) -> ExperimentView:
        """Check what can be checked, register the plan, then commit the experiment and its job.

        A plan whose experiment then fails to commit is never evaluated: nothing is lost, and
        nothing trains without its plan.
        """
        with self._db.transaction() as tx:
            made = earlier(tx, caller, idempotency_key, request)
        return self.experiment(caller, made or self._order(caller, request, idempotency_key))

    def experiment(self, caller: Caller, experiment: UUID) -> ExperimentView:
        with self._db.transaction() as tx:
            row = find_experiment(tx.session, caller, experiment)
            failed = _failed_runs(tx.session, [row.id])
            view = experiment_view(row, self._jobs.view(tx, row.job), failed.get(row.id, 0))
        return self._origins.of_experiment(caller, view, _manifests(row))

    def experiments(self, caller: Caller, cursor: str | None, limit: int) -> Page[ExperimentView]:
        """The project's experiments, the newest first."""
        with self._db.transaction() as tx:

            def views(rows: Sequence[Experiment]) -> list[ExperimentView]:
                jobs = self._jobs.views(tx, [row.job for row in rows])
                failed = _failed_runs(tx.session, [row.id for row in rows])
                return [experiment_view(row, jobs[row.job], failed.get(row.id, 0)) for row in rows]

            ours = select(Experiment).where(
                Experiment.project == caller.project, lineage.visible(Experiment.id)
            )
            return page(tx.session, ours, Experiment.id, cursor, limit, views, newest_first=True)

    def arms(self, caller: Caller, experiment: UUID) -> list[ArmView]:
        with self._db.transaction() as tx:
            row = find_experiment(tx.session, caller, experiment)
            runs = tx.session.scalars(select(Run).where(Run.experiment == row.id)).all()
            job = self._jobs.view(tx, row.job)
            return arm_views(row, runs, job.state, self._jobs.slice_states(tx, row.job))

    def curves(self, caller: Caller, experiment: UUID) -> tuple[str, Curves]:
        """The experiment's name, and the validations of every run by arm and seed."""
        with self._db.transaction() as tx:
            row = find_experiment(tx.session, caller, experiment)
            runs = tx.session.scalars(select(Run).where(Run.experiment == row.id)).all()
            order = [arm["name"] for arm in row.arms]
        in_order = sorted(runs, key=lambda run: (order.index(run.arm), run.seed))
        return row.name, {(run.arm, run.seed): _curve(run) for run in in_order}

    def cancel(self, caller: Caller, experiment: UUID) -> ExperimentView:
        with self._db.transaction() as tx:
            self._jobs.cancel(tx, find_experiment(tx.session, caller, experiment).job)
        return self.experiment(caller, experiment)

    def classifier(self, caller: Caller, classifier: UUID) -> ClassifierView:
        with self._db.transaction() as tx:
            row = find_classifier(tx.session, caller, classifier)
            manifests = _manifests(tx.session.get_one(Experiment, row.experiment))
        return self._origins.of_classifier(caller, classifier_view(row), manifests)

    def _order(self, caller: Caller, request: ExperimentRequest, key: str | None) -> UUID:
        arms = expand(request)
        primary = primary_of(request, arms)
        with self._db.transaction() as tx:
            check_extended(tx.session, caller, request)
        listed = self._catalogue.list_all(caller, request, arms)
        checks.one_size(list(listed.values()))
        waits_for = [each.job.id for each in listed.values() if not each.ready]
        planned = self._planner.plan_if_ready(caller, request, listed)
        known = None if planned is None else planned.blueprint
        experiment = new_id()
        plan = plan_of(experiment, request, arms, primary, known)
        registered = self._evaluation.register(caller, plan)
        job = NewJob(
            SERVICE,
            KIND,
            QUEUE,
            caller,
            experiment,
            inputs=request.model_dump(mode="json"),
            slices=[{"step": "plan"}] if known is None else run_slices(request, known, arms),
            waits_for=waits_for,
            total=0 if known is None else total_steps(request, known),
            unit="steps",
        )
        row = Experiment(
            id=experiment,
            project=caller.project,
            owner=caller.person,
            job=job.id,
            plan=registered.id,
            name=request.name,
            request=request.model_dump(mode="json"),
            arms=[arm.model_dump(mode="json") for arm in arms],
        )

        def write() -> UUID:
            tx.session.add(row)
            if known is not None:
                adopt(tx.session, row, request, known, arms)
            made = Made(SERVICE, QUEUE, EXPERIMENT, experiment, request.name)
            lineage.note(tx, caller, made, sources_of(request, arms))
            self._jobs.submit(tx, job)
            tx.session.flush()
            return experiment

        with self._db.transaction() as tx:
            return once(tx, caller, key, request, write)


def sources_of(request: ExperimentRequest, arms: Sequence[Arm]) -> dict[UUID, str]:
    """The ids of all data the experiment reads, with the field that names each."""
    named = references(request, arms)
    ids = ((ref.dataset if isinstance(ref, DatasetRef) else ref.generation, f) for f, ref in named)
    return dict(ids)


def adopt(
    session: Session,
    row: Experiment,
    request: ExperimentRequest,
    blueprint: Blueprint,
    arms: Sequence[Arm],
) -> None:
    """Write down how the experiment is trained, and a row for every run."""
    row.blueprint = blueprint.model_dump(mode="json")
    session.flush()  # the runs refer to it
    session.add_all(
        Run(
            experiment=row.id,
            arm=arm,
            seed=seed,
            steps=sum(blueprint.arms[arm].steps),
            inputs_digest=digest,
        )
        for (arm, seed), digest in digests(request, blueprint, arms).items()
    )


def run_slices(
    request: ExperimentRequest, blueprint: Blueprint, arms: Sequence[Arm]
) -> list[dict[str, Any]]:
    """One slice a run, every arm with the first seed before any with the second.

    Of runs with the same inputs only the first has a slice: it names the arms that follow it.
    """
    leading: dict[str, dict[str, Any]] = {}
    for (arm, seed), digest in digests(request, blueprint, arms).items():
        if digest in leading:
            leading[digest].setdefault("twins", []).append(arm)
        else:
            leading[digest] = {"step": "run", "arm": arm, "seed": seed}
    return list(leading.values())


def total_steps(request: ExperimentRequest, blueprint: Blueprint) -> int:
    return len(request.seeds) * sum(sum(arm.steps) for arm in blueprint.arms.values())


def plan_of(
    experiment: UUID,
    request: ExperimentRequest,
    arms: Sequence[Arm],
    primary: str,
    known: Blueprint | None,
) -> PlanPost:
    """The analysis as it is registered. Where the labels are not known yet they follow from the
    data by a fixed rule, and come with the predictions.
    """
    unchecked = [*checks.extension(request), *([UNCHECKED] if request.allow_leakage else [])]
    contrasts, synthetic = contrasts_of(request, arms), synthetic_of(request, known)
    return PlanPost(
        experiment=experiment,
        name=request.name,
        arms=planned_arms(arms, contrasts, primary, synthetic, known),
        seeds=request.seeds,
        tests=[PlannedTest(name=t.name, data=t.data, split=t.split) for t in request.tests],
        reference=reference_of(request),
        primary=primary,
        margin=request.plan.margin,
        questions=questions_of(request, arms),
        averaged=request.plan.averaged,
        fewest_patients=request.plan.fewest_patients,
        labels=request.labels if known is None else known.labels,
        waived=unchecked if known is None else known.waived,
        contact_sheet=_contact_sheet(arms),
        training=_training_note(request, known),
    )


def synthetic_of(request: ExperimentRequest, known: Blueprint | None) -> Collection[DataRef]:
    """The datasets of synthetic images; before the data is there, those that a preset names."""
    if known is None:
        return synthetic_datasets(request, {})
    return [ref_of(key) for key in known.synthetic]


def _training_note(request: ExperimentRequest, known: Blueprint | None) -> TrainingNote:
    """For the methods paragraph of the report."""
    return TrainingNote(
        classifier=request.classifier.model_dump(mode="json"),
        uncertain=request.label_policy.uncertain,
        blank=request.label_policy.blank,
        arms={} if known is None else _trained(known),
    )


def particulars_of(
    request: ExperimentRequest, arms: Sequence[Arm], known: Blueprint
) -> ParticularsPost:
    """What the plan could not say while the data was still in the making."""
    contrasts, primary = contrasts_of(request, arms), primary_of(request, arms)
    return ParticularsPost(
        arms=planned_arms(arms, contrasts, primary, synthetic_of(request, known), known),
        trained=_trained(known),
        waived=known.waived,
    )


def _trained(known: Blueprint) -> dict[str, TrainedArm]:
    return {
        name: TrainedArm(images=arm.images, steps=sum(arm.steps), withheld=arm.withheld)
        for name, arm in known.arms.items()
    }


def _contact_sheet(arms: Sequence[Arm]) -> ContactSheet | None:
    used: list[DataRef] = [source.data for source in sources(arms)]
    real = next((ref for ref in used if isinstance(ref, DatasetRef)), None)
    synthetic = next((ref for ref in used if isinstance(ref, GenerationRef)), None)
    return None if real is None else ContactSheet(real=real, synthetic=synthetic)


def _manifests(row: Experiment) -> dict[str, str]:
    """The digests of the manifests it was planned on, by reference; none before it is planned."""
    return (row.blueprint or {}).get("manifests", {})


def _failed_runs(session: Session, experiments: Sequence[UUID]) -> dict[UUID, int]:
    """How many runs have failed for good, by experiment that has any."""
    failed = select(Run.experiment, func.count()).where(
        Run.experiment.in_(experiments), Run.problem.is_not(None)
    )
    rows = session.execute(failed.group_by(Run.experiment))
    return {experiment: count for experiment, count in rows}  # noqa: C416 - rows are no pairs


def _curve(run: Run) -> Curve:
    return Curve([CurvePoint.model_validate(point) for point in run.curve], run.best_step)


def find_classifier(
    session: Session, caller: Caller, classifier: UUID, *, lock: bool = False
) -> Classifier:
    """Raises `ClassifierUnknown` (404)."""
    mine = select(Classifier).filter_by(id=classifier, project=caller.project)
    there = mine.where(lineage.visible(Classifier.experiment))
    row = session.scalars(there.with_for_update() if lock else there).one_or_none()
    if row is None:
        raise ClassifierUnknown("There is no such classifier here", field="classifier")
    return row


def check_extended(session: Session, caller: Caller, request: ExperimentRequest) -> None:
    """Raises `ExperimentUnknown` (404) unless what the request extends is there."""
    if request.extends is not None:
        find_experiment(session, caller, request.extends, field="extends")


def find_experiment(
    session: Session, caller: Caller, experiment: UUID, field: str | None = None
) -> Experiment:
    mine = select(Experiment).filter_by(id=experiment, project=caller.project)
    row = session.scalars(mine.where(lineage.visible(Experiment.id))).one_or_none()
    if row is None:
        raise ExperimentUnknown("There is no such experiment here", field=field)
    return row
