"""Predictions of any classifier, evaluated on their own, on the wire."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator

from api_schemas.base import Damageable, Digest, EvaluationSplit, JobView, Name, Wire
from api_schemas.evaluation import Flag
from api_schemas.findings import Finding
from api_schemas.shifts import ComparedSet, DataWord


class EvaluationPost(Wire):
    """The text fields of the form that brings predictions.

    With `data` the predictions are of all images of a split of a dataset or cohort, which says
    patients, truth and groups. `classifier` and `scoring` say whose scores they are, `leakage` in
    words what is known of their patients: all as the sender says.
    """

    name: Name
    data: DataWord | None = None
    split: EvaluationSplit = "all"
    classifier: UUID | None = None
    scoring: UUID | None = None
    leakage: Annotated[str, StringConstraints(min_length=1, max_length=1000)] | None = None

    @model_validator(mode="after")
    def _split_of_data(self) -> Self:
        if self.split != "all" and self.data is None:
            msg = "split: only together with data, of which it is a part"
            raise ValueError(msg)
        return self


class EvaluationRequest(EvaluationPost):
    """The form with the digests of its files."""

    sha256: Digest
    reference_sha256: Digest | None = None


class EvaluatedRow(Wire):
    """A label or `macro`, of all images or of a `group` (`sex: Female`).

    `low` and `high` bound the 95 % interval of `auroc`; `difference` is `file` minus `reference`,
    paired, with its interval and two-sided `p`. `dof` belongs to the difference, without a
    reference to the interval. A number that cannot honestly be given is null and `flags` say why.
    """

    label: str
    group: str | None
    images: int
    positives: int | None
    patients: int
    auroc: float | None
    low: float | None
    high: float | None
    reference_auroc: float | None
    reference_low: float | None
    reference_high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p: float | None
    dof: float | None
    flags: list[Flag] = []


class Evaluated(Wire):
    """`labels` are those that `macro` is the mean over: images have and lack each of them.

    `data` is what the predictions are of, in the version that said patients and truth; `digest`
    and `reference_digest` are over the content of the predictions.
    """

    method: str
    images: int
    patients: int
    labels: list[Finding]
    data: ComparedSet | None
    digest: Digest
    reference_digest: Digest | None
    rows: list[EvaluatedRow]


class EvaluationView(Damageable):
    id: UUID
    name: str
    request: EvaluationRequest
    created_at: datetime
    job: JobView
    result: Evaluated | None = Field(default=None, description="once the job is done")
