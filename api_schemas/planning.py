"""An experiment's plan before it runs: what it would train, what it could show, what it costs."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from api_schemas.arms import Arm
from api_schemas.base import JobView, Wire
from api_schemas.findings import Finding


class PlannedTraining(Wire):
    """An arm as it would be trained, once for every seed. Null: the data is still being made.

    `withheld` counts images that the arm asks for and does not get: they were withheld from its
    cohort. `dose` is synthetic images per real one, where that means something, and of those that
    are there.
    """

    arm: Arm
    images: int | None
    withheld: int | None
    steps: int | None
    dose: float | None


class Contrast(Wire):
    """A comparison that is planned: macro AUROC of `arm` minus that of `reference`, on every test
    set. Holm's p is over a `family`: that of the primary question, over all test sets; of further
    registered questions, over all of them and all test sets; of exploratory contrasts, over all
    arms with one reference, on each test set.
    """

    arm: str
    reference: str
    family: str


class LabelCounts(Wire):
    """What a test set knows of a label. `estimable`: it has images with and without it."""

    label: Finding
    positives: int
    negatives: int
    positive_patients: int
    negative_patients: int
    estimable: bool


Correlation = Annotated[float, Field(ge=0, lt=1)]


class PowerAssumptions(Wire):
    """What the smallest difference that can be shown is computed from: none of it is measured. Put
    in what you know, most of all `seed_sd`: the answer hangs on it, and it is often many times the
    default, as every result's `seed_sd` shows.
    """

    power: float = Field(default=0.8, ge=0.5, lt=1)
    alpha: float = Field(
        default=0.05,
        gt=0,
        le=0.2,
        description="two-sided, over all test sets: each has its share, as in Holm's first step",
    )
    auroc: float = Field(default=0.8, gt=0.5, lt=1, description="of every label")
    arms_correlation: tuple[Correlation, Correlation] = Field(
        default=(0.5, 0.8), description="between two arms' AUROCs on the same patients"
    )
    labels_correlation: Correlation = Field(
        default=0.2, description="between two labels' differences on the same patients"
    )
    seed_sd: float = Field(
        default=0.004,
        ge=0,
        le=1,
        description="of the difference between two arms over training seeds",
    )


class TestPlan(Wire):
    """A test set, and the smallest difference in macro AUROC that it can show.

    `smallest_difference` has two ends, for the two ends of the correlation assumed between arms,
    the stronger one first: so large must a true difference be for the primary question to be
    answered "better" or "worse" here in the share `power` of such studies, after Holm's adjustment
    over the test sets. Null where there will be no verdict, and `no_verdict` says why.
    `complements` are pairs of averaged labels of which each is present just where the other is
    absent: the mean counts one fact twice.
    """

    name: str
    images: int
    patients: int
    labels: list[LabelCounts]
    smallest_difference: tuple[float, float] | None
    no_verdict: str | None = None
    complements: list[tuple[Finding, Finding]] = []


class Estimate(Wire):
    """Hours on one device like the one that was measured, were nothing else to run there."""

    device_hours: float
    device: str
    seconds_per_step: float
    measured_at: datetime


class ExperimentPlan(Wire):
    """What `POST /experiments` with `dry_run` answers; nothing has been made.

    `contrasts` are all comparisons that will be made of means: of each arm with the control of its
    own regime and share of the patients, and of the registered questions. `waits_for` are the jobs
    that still make the data: until they are done only the arms are known. `reused_runs` of `runs`
    have been trained before and are not trained again. `estimate` is of the others; it is null
    until speed is known for such a classifier, and `calibration` is then the job that measures it:
    ask again once it has ended. `left_out` says why a label is not among `labels`; `not_estimable`
    names labels that lack a class by test set. `averaged` are the labels that the macro AUROC is
    the mean over, `not_averaged` says why others are not.
    """

    arms: list[PlannedTraining]
    reference: str
    primary: str
    contrasts: list[Contrast]
    seeds: list[int]
    runs: int
    reused_runs: int = 0
    total_steps: int | None = None
    labels: list[Finding] | None = None
    left_out: dict[Finding, str] = {}
    not_estimable: dict[str, list[Finding]] = {}
    averaged: list[Finding] | None = None
    not_averaged: dict[Finding, str] = {}
    tests: list[TestPlan] = []
    power: PowerAssumptions = PowerAssumptions()
    waived: list[str] = []
    waits_for: list[UUID] = []
    estimate: Estimate | None = None
    calibration: JobView | None = None
