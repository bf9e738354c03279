"""Rows of evaluation as wire types."""

from api_schemas.base import JobView
from api_schemas.evaluation import Comparison, PlanPost, PlanView, PredictionsView, ResultRow
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


def predictions_view(row: models.Prediction) -> PredictionsView:
    return PredictionsView.model_validate(
        {name: getattr(row, name) for name in PredictionsView.model_fields}
    )


def result_row(row: models.Result) -> ResultRow:
    return ResultRow.model_validate({name: getattr(row, name) for name in ResultRow.model_fields})


def comparison(row: models.Comparison) -> Comparison:
    return Comparison.model_validate({name: getattr(row, name) for name in Comparison.model_fields})
