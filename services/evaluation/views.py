"""Rows of evaluation as wire types."""

from api_schemas.base import JobState, JobView
from api_schemas.evaluation import (
    AbsenceView,
    Answer,
    BaselineRow,
    Comparison,
    MetricRow,
    PlanPost,
    PlanView,
    PredictionsView,
    ResultRow,
    VersionView,
)
from api_schemas.evaluations import Evaluated, EvaluationRequest, EvaluationView
from api_schemas.exports import ExportFile, ExportRequest, ExportView
from api_schemas.features import FeaturesRequest, FeaturesView
from api_schemas.overlaps import Overlap, OverlapRequest, OverlapView
from api_schemas.qualities import Quality, QualityRequest, QualityView
from api_schemas.terms import Licence
from services.evaluation import models


def plan_view(
    row: models.Plan, plan: PlanPost, received: int, expected: int, job: JobView | None
) -> PlanView:
    return PlanView(
        **dict(plan),
        id=row.id,
        digest=row.digest,
        created_at=row.created_at,
        received=received,
        expected=expected,
        job=job,
    )


def version_view(row: models.Evaluation) -> VersionView:
    return VersionView.model_validate(row, from_attributes=True)


def absence_view(row: models.Absence) -> AbsenceView:
    return AbsenceView.model_validate(row, from_attributes=True)


def predictions_view(row: models.Prediction) -> PredictionsView:
    return PredictionsView.model_validate(row, from_attributes=True)


def result_row(row: models.Result) -> ResultRow:
    return ResultRow.model_validate(row, from_attributes=True)


def metric_row(row: models.Metric) -> MetricRow:
    return MetricRow.model_validate(row, from_attributes=True)


def baseline_row(row: models.Baseline) -> BaselineRow:
    return BaselineRow.model_validate(row, from_attributes=True)


def answer(row: models.Answer) -> Answer:
    return Answer.model_validate(row, from_attributes=True)


def comparison(row: models.Comparison) -> Comparison:
    return Comparison.model_validate(row, from_attributes=True)


def overlap_view(row: models.Overlap, job: JobView) -> OverlapView:
    return OverlapView(
        id=row.id,
        request=OverlapRequest.model_validate(row.request),
        created_at=row.created_at,
        job=job,
        result=None if row.result is None else Overlap.model_validate(row.result),
    )


def quality_view(row: models.Quality, job: JobView) -> QualityView:
    return QualityView(
        id=row.id,
        request=QualityRequest.model_validate(row.request),
        created_at=row.created_at,
        job=job,
        result=None if row.result is None else Quality.model_validate(row.result),
    )


def export_request(row: models.Export) -> ExportRequest:
    return ExportRequest.model_validate(row.request)


def export_view(row: models.Export, job: JobView, files: list[ExportFile]) -> ExportView:
    """The files show once they can be had."""
    return ExportView(
        id=row.id,
        request=export_request(row),
        name=row.name,
        manifest=row.digest,
        images=row.images,
        licence=Licence.model_validate(row.licence),
        created_at=row.created_at,
        job=job,
        files=files if job.state is JobState.SUCCEEDED else [],
    )


def evaluation_view(row: models.Judgement, job: JobView) -> EvaluationView:
    return EvaluationView(
        id=row.id,
        name=row.name,
        request=EvaluationRequest.model_validate(row.request),
        created_at=row.created_at,
        job=job,
        result=None if row.result is None else Evaluated.model_validate(row.result),
    )


def features_view(row: models.FeatureTable) -> FeaturesView:
    return FeaturesView(
        id=row.id,
        request=FeaturesRequest.model_validate(row.request),
        manifest=row.manifest,
        images=row.images,
        dimension=row.dimension,
        created_at=row.created_at,
    )
