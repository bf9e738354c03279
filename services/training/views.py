"""Rows of training as the wire shows them."""

from collections.abc import Sequence
from typing import Any, Literal

from api_schemas.arms import Arm
from api_schemas.base import JobState, JobView, Problem
from api_schemas.findings import Finding
from api_schemas.scorings import ScoringRequest, ScoringView
from api_schemas.training import (
    ArmView,
    ClassifierView,
    CurvePoint,
    ExperimentRequest,
    ExperimentView,
    RunView,
)
from services.training.models import Classifier, Experiment, Run, Scoring

RunState = Literal["queued", "running", "done", "failed", "cancelled"]

OF_SLICE: dict[str, RunState] = {
    "queued": "queued",
    "running": "running",
    "done": "queued",  # between two stretches: the next slice is not written yet
    "failed": "failed",
    "quarantined": "failed",
    "cancelled": "cancelled",
}


def experiment_view(row: Experiment, job: JobView, failed_runs: int) -> ExperimentView:
    blueprint = row.blueprint or {}
    return ExperimentView(
        id=row.id,
        name=row.name,
        request=ExperimentRequest.model_validate(row.request),
        plan=row.plan,
        labels=blueprint.get("labels"),
        left_out=blueprint.get("left_out", {}),
        not_estimable=blueprint.get("not_estimable", {}),
        waived=blueprint.get("waived", []),
        failed_runs=failed_runs,
        created_at=row.created_at,
        job=job,
    )


def arm_views(
    row: Experiment,
    runs: Sequence[Run],
    job: JobState,
    slices: Sequence[tuple[dict[str, Any], str]],
) -> list[ArmView]:
    """Every arm with its runs; a run stands where its latest slice stands."""
    latest: dict[tuple[str, int], RunState] = {
        (payload["arm"], payload["seed"]): OF_SLICE[state]
        for payload, state in slices
        if payload["step"] == "run"
    }
    rows = {(run.arm, run.seed): run for run in runs}
    planned = (row.blueprint or {}).get("arms", {})
    seeds: list[int] = row.request["seeds"]
    unplanned: RunState = "queued" if not job.terminal else "cancelled"
    return [
        ArmView(
            arm=Arm.model_validate(arm),
            images=sum(map(sum, planned[arm["name"]]["listed"])) if planned else None,
            withheld=planned[arm["name"]].get("withheld", 0) if planned else None,
            steps=sum(planned[arm["name"]]["steps"]) if planned else None,
            runs=[
                _run_view(
                    seed,
                    rows.get((arm["name"], seed)),
                    latest.get((arm["name"], seed), unplanned),
                )
                for seed in seeds
            ],
        )
        for arm in row.arms
    ]


def _run_view(seed: int, run: Run | None, state: RunState) -> RunView:
    if run is None:
        return RunView(seed=seed, state=state)
    return RunView(
        seed=seed,
        state="done" if run.finished_at else "failed" if run.problem else state,
        validation_auroc=run.validation_auroc,
        steps=run.step,
        best_step=run.best_step,
        classifier=run.classifier,
        reused=run.reused,
        problem=None if run.problem is None else Problem.model_validate(run.problem),
        curve=[CurvePoint.model_validate(point) for point in run.curve],
    )


def classifier_view(row: Classifier) -> ClassifierView:
    return ClassifierView(
        id=row.id,
        experiment=row.experiment,
        arm=row.arm,
        seed=row.seed,
        labels=[Finding(label) for label in row.labels],
        size_px=row.size_px,
        best_step=row.best_step,
        validation_auroc=row.validation_auroc,
        digest=row.digest,
        created_at=row.created_at,
    )


def scoring_view(row: Scoring, job: JobView) -> ScoringView:
    return ScoringView(
        id=row.id,
        name=row.name,
        request=ScoringRequest.model_validate(row.request),
        labels=[Finding(label) for label in row.labels],
        images=row.images,
        leakage=row.leakage,
        evaluation=row.evaluation,
        not_evaluated=row.not_evaluated,
        created_at=row.created_at,
        job=job,
    )
