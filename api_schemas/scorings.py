"""Any data scored with any trained classifier, on the wire."""

from datetime import datetime
from uuid import UUID

from pydantic import ConfigDict, Field

from api_schemas.base import Damageable, DataRef, EvaluationSplit, JobView, Name, Wire
from api_schemas.findings import Finding


class ScoringRequest(Wire):
    """Score a split of a dataset or cohort with a trained classifier.

    Refused where the classifier's training or validation, or a generator behind them, saw
    patients or pictures of it, unless `allow_leakage`; then the answer says so.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "classifier": "019a0000-0000-7000-8000-000000000005",
                    "data": {"dataset": "019a0000-0000-7000-8000-000000000001"},
                    "split": "test",
                }
            ]
        }
    )

    name: Name | None = None
    classifier: UUID
    data: DataRef
    split: EvaluationSplit = "all"
    allow_leakage: bool = False


class ScoringView(Damageable):
    """A scoring. `leakage` says in words what training had seen of the data, null before that is
    looked up. Its predictions are at `/scorings/{id}/predictions`, and evaluated as `evaluation`;
    where they cannot be, `not_evaluated` says why.
    """

    id: UUID
    name: str
    request: ScoringRequest
    labels: list[Finding]
    images: int | None
    leakage: list[str] | None
    evaluation: UUID | None = None
    not_evaluated: str | None = None
    created_at: datetime
    job: JobView = Field(description="counts images")
