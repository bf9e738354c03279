"""Analysis plans, predictions and results on the wire."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from api_schemas.base import DataRef, Digest, EvaluationSplit, JobView, Name, Wire
from api_schemas.findings import Finding

MACRO = "macro"
"""The pseudo-label of the unweighted mean over the labels."""


class PlannedTest(Wire):
    name: str
    data: DataRef
    split: EvaluationSplit


class PlannedArm(Wire):
    """`dose` is synthetic images per real one (1 = 100 %), null where that means nothing."""

    name: str
    dose: float | None = None


class ContactSheet(Wire):
    """Which images the report shows side by side."""

    real: DataRef
    synthetic: DataRef | None = None


class PlanPost(Wire):
    """The analysis of one experiment, frozen before anything trains.

    `primary` minus `reference`, in macro AUROC, is the registered question; `margin` bounds the
    differences that do not matter. `waived` repeats, in words, every guard that was waived.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "experiment": "019a0000-0000-7000-8000-000000000004",
                    "name": "does it help?",
                    "arms": [
                        {"name": "real", "dose": 0},
                        {"name": "real_equal_steps"},
                        {"name": "real+100%", "dose": 1},
                    ],
                    "seeds": [0, 1, 2, 3, 4],
                    "tests": [
                        {
                            "name": "internal",
                            "data": {"dataset": "019a0000-0000-7000-8000-000000000001"},
                            "split": "test",
                        }
                    ],
                    "reference": "real_equal_steps",
                    "primary": "real+100%",
                    "margin": 0.005,
                }
            ]
        }
    )

    experiment: UUID
    name: Name
    arms: list[PlannedArm] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    tests: list[PlannedTest] = Field(min_length=1)
    reference: str
    primary: str
    margin: float
    labels: list[Finding] | None = None
    waived: list[str] = []
    contact_sheet: ContactSheet | None = None


class PlanView(PlanPost):
    model_config = ConfigDict(json_schema_extra={})  # a request's example is none of an answer

    id: UUID
    digest: Digest
    created_at: datetime
    received: int = Field(description="prediction sets received")
    expected: int = Field(description="arms x seeds x tests")
    job: JobView | None = Field(default=None, description="the evaluation, once all are there")


class PredictionsPost(Wire):
    """What the Parquet body of `POST /predictions` belongs to (sent as query parameters)."""

    plan: UUID
    arm: str
    seed: int
    test: str


class PredictionsView(PredictionsPost):
    id: UUID
    digest: Digest
    images: int
    patients: int
    created_at: datetime


class AbsencePost(Wire):
    """The predictions of an arm and seed will never come, and why, in words."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"arm": "real+100%", "seed": 3, "reason": "the training loss became infinite"}
            ]
        }
    )

    arm: str
    seed: int
    reason: str = Field(max_length=1000)


class AbsenceView(AbsencePost):
    model_config = ConfigDict(json_schema_extra={})

    plan: UUID
    created_at: datetime


Flag = Literal[
    "few_degrees_of_freedom",
    "fewer_labels",
    "few_patients",
    "few_seeds",
    "not_estimable",
    "runs_missing",
    "exact",
    "exploratory",
    "primary",
    "leakage_waived",
    "phantom",
]


class ResultRow(Wire):
    """One line of `/results`: an arm on a test set, for a label or `macro`.

    `low` and `high` bound the 95 % interval of `auroc`; `difference` is arm minus `reference`
    with its interval and two-sided `p`; `p_holm` is there for the primary family only. `dof`
    belongs to the difference, on the reference's own lines to the interval. A number that cannot
    honestly be given is null and `flags` says why.
    """

    experiment: UUID
    arm: str
    test: str
    label: str
    group: str | None = None
    images: int
    positives: int | None
    patients: int
    seeds: int
    auroc: float | None
    low: float | None
    high: float | None
    reference: str | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p: float | None
    p_holm: float | None
    dof: float | None
    flags: list[Flag] = []


Verdict = Literal["better", "worse", "equivalent", "inconclusive", "not_estimable"]


class Comparison(Wire):
    """The registered primary question on one test set, and its answer."""

    experiment: UUID
    test: str
    primary: str
    reference: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    dof: float | None
    margin: float
    verdict: Verdict
    seeds: int
    flags: list[Flag] = []


Limit = Annotated[int, Field(ge=1, le=1000)]
