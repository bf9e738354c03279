"""Analysis plans, predictions and results on the wire."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, JsonValue

from api_schemas.base import DataRef, Digest, EvaluationSplit, JobView, Name, Seed, Wire
from api_schemas.findings import Finding

MACRO = "macro"
"""The pseudo-label of the unweighted mean over the labels."""


class PlannedTest(Wire):
    name: Name
    data: DataRef
    split: EvaluationSplit


class PlannedArm(Wire):
    """`reference` is the arm it is compared with (null: the plan's), such as the control with equal
    steps of its own regime and share of the patients. An arm that names itself is compared with
    none. `dose` is synthetic images per real image of the reference (1 = 100 %), null where that
    means nothing.
    """

    name: Name
    dose: float | None = None
    reference: Name | None = None


class ContactSheet(Wire):
    """Which images the report shows side by side."""

    real: DataRef
    synthetic: DataRef | None = None


class TrainedArm(Wire):
    """Images listed (repetitions counted) and steps of every run of an arm.

    `withheld` counts synthetic images that the arm asked for and could not have, since they were
    withheld from their cohort as near copies of training images.
    """

    images: int
    steps: int
    withheld: int = 0


class TrainingNote(Wire):
    """How the classifiers are trained, for the methods paragraph of the report.

    `classifier` holds settings by name; `uncertain` and `blank` say what training makes of such
    labels; `arms` is empty where the data was still in the making when the plan was registered.
    """

    classifier: dict[str, JsonValue]
    uncertain: Literal["ignore", "0", "1"]
    blank: Literal["ignore", "0"]
    arms: dict[str, TrainedArm] = {}


QuestionKind = Literal["superiority", "noninferiority", "equivalence"]


class Question(Wire):
    """A further registered question of `arm` minus `reference`, in macro AUROC.

    Superiority: it differs from zero; non-inferiority: it is above minus `margin`; equivalence:
    it lies within plus and minus `margin`. The margin belongs to the last two only.
    """

    arm: str
    reference: str
    kind: QuestionKind
    margin: float | None = None

    def contradiction(self, arms: Sequence[str]) -> tuple[str, str] | None:
        """The field and the reason for which it cannot be asked of these arms; None if it can."""
        for name in ("arm", "reference"):
            if getattr(self, name) not in arms:
                return name, "It must be one of the arms"
        if self.arm == self.reference:
            return "arm", "It must differ from the reference"
        if self.kind == "superiority":
            return (
                None if self.margin is None else ("margin", "Superiority is over zero, without one")
            )
        if self.margin is None or not 0 < self.margin < 1:
            return "margin", "A difference in AUROC above 0 and below 1"
        return None


class PlanPost(Wire):
    """The analysis of one experiment, frozen before anything trains.

    `primary` minus `reference`, in macro AUROC, is the registered question; `margin` bounds the
    differences that do not matter. `questions` are further ones, a family of their own. Every other
    arm is compared with the reference that it names; the arms that one reference has, without the
    primary one, are a family on each test set. `waived` repeats, in words, every guard that was
    waived.

    The macro AUROC of every arm is the mean over the same labels on every test set: of `averaged`
    (null: all) those that have at least `fewest_patients` patients with and as many without the
    finding on each of them. Which these are follows from the truth alone. A test set that has as
    many for none of the labels has no mean, and takes none from the others.
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
                    "training": {
                        "classifier": {"preset": "fast", "epochs": 10},
                        "uncertain": "ignore",
                        "blank": "ignore",
                        "arms": {"real": {"images": 1000, "steps": 313}},
                    },
                    "questions": [
                        {
                            "arm": "real+100%",
                            "reference": "real",
                            "kind": "noninferiority",
                            "margin": 0.01,
                        }
                    ],
                }
            ]
        }
    )

    experiment: UUID
    name: Name
    arms: list[PlannedArm] = Field(min_length=1)
    seeds: list[Seed] = Field(min_length=1)
    tests: list[PlannedTest] = Field(min_length=1)
    reference: str
    primary: str
    margin: float
    questions: list[Question] = []
    labels: list[Finding] | None = None
    averaged: list[Finding] | None = None
    fewest_patients: int = Field(default=2, ge=2, le=1000)
    waived: list[str] = []
    contact_sheet: ContactSheet | None = None
    training: TrainingNote | None = None


class PlanView(PlanPost):
    model_config = ConfigDict(json_schema_extra={})  # a request's example is none of an answer

    id: UUID
    digest: Digest
    created_at: datetime
    received: int = Field(description="prediction sets received")
    expected: int = Field(description="arms x seeds x tests")
    job: JobView | None = Field(default=None, description="the newest evaluation, if any")


class VersionView(Wire):
    """Results of a plan as they were once computed, the newest of which is shown unless another
    is asked for. `versions` are those of the libraries and, as a digest, of the code;
    `inputs_digest` is over the plan, the predictions and what said who is in which group.
    """

    plan: UUID
    version: int
    method: str
    versions: dict[str, str]
    inputs_digest: Digest
    job: UUID
    created_at: datetime


class ParticularsPost(Wire):
    """What became known of a plan's experiment once its data was there, before anything trained:
    doses and sizes of its arms, and every guard that is waived, all in place of the plan's own.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "arms": [
                        {"name": "real_equal_steps", "dose": 0},
                        {"name": "real+100%", "dose": 0.99},
                    ],
                    "trained": {
                        "real_equal_steps": {"images": 1000, "steps": 623},
                        "real+100%": {"images": 1990, "steps": 623, "withheld": 10},
                    },
                    "waived": [],
                }
            ]
        }
    )

    arms: list[PlannedArm] = Field(min_length=1)
    trained: dict[str, TrainedArm]
    waived: list[str] = []


class ParticularsView(ParticularsPost):
    model_config = ConfigDict(json_schema_extra={})

    plan: UUID
    created_at: datetime


class PredictionsPost(Wire):
    """What the Parquet body of `POST /predictions` belongs to (sent as query parameters).

    `steps` were taken in training, and the weights of `best_step` made the predictions; null where
    the sender does not say it.
    """

    plan: UUID
    arm: Name
    seed: Seed
    test: Name
    steps: int | None = Field(default=None, ge=1)
    best_step: int | None = Field(default=None, ge=1)


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

    arm: Name
    seed: Seed
    reason: str = Field(max_length=1000)


class AbsenceView(AbsencePost):
    model_config = ConfigDict(json_schema_extra={})

    plan: UUID
    created_at: datetime


Flag = Literal[
    "below_chance",
    "dominant_patient",
    "few_degrees_of_freedom",
    "fewer_labels",
    "few_patients",
    "few_seeds",
    "no_variation",
    "not_estimable",
    "runs_missing",
    "runs_contradicted",
    "images_withheld",
    "not_probabilities",
    "exact",
    "exploratory",
    "primary",
    "registered",
    "leakage_waived",
    "phantom",
    "synthetic",
    "unlike_its_data",
]


class ResultRow(Wire):
    """One line of `/results`: an arm on a test set, for a label or `macro`, in a group or (null)
    on all images.

    `low` and `high` bound the 95 % interval of `auroc`; `difference` is arm minus `reference`
    with its interval and two-sided `p`; `reference` is the arm's own. `p_holm` is Holm's p within
    the line's family: the primary question over the test sets; the macros of all other arms with
    one reference, on one test set; or of one arm on one test set all labels, all groups' macros,
    or all labels of groups. `dof` belongs to the difference, on the reference's own lines
    to the interval, and so do `test_sd` and `seed_sd`: the standard deviations that another test
    set and another training seed would bring. A number that cannot honestly be given is null and
    `flags` says why.
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
    test_sd: float | None = None
    seed_sd: float | None = None
    flags: list[Flag] = []


Metric = Literal[
    "average_precision",
    "sensitivity_at_90_specificity",
    "sensitivity_at_95_specificity",
    "specificity_at_90_sensitivity",
    "specificity_at_95_sensitivity",
    "brier",
    "calibration_intercept",
    "calibration_slope",
    "underdiagnosis",
    "missed",
    "auroc_gap",
    "underdiagnosis_gap",
    "missed_gap",
]


class MetricRow(Wire):
    """One line of `/metrics`: what else than AUROC there is to say of an arm on a test set.

    A metric that ends in `_gap` is `group` minus `against`, the largest group of its kind over
    the plan's test sets; the `difference` of a gap to the reference arm says whom the arm helped
    more. `low` and `high` bound the 95 % interval of `value`, `p` and `p_holm` (on one test set and
    for one metric over the macros of all arms with one reference, or over the labels or the groups
    of one arm) are of the `difference`.
    """

    experiment: UUID
    arm: str
    test: str
    label: str
    group: str | None
    against: str | None
    metric: Metric
    images: int
    positives: int | None
    patients: int
    seeds: int
    value: float | None
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
    """The registered primary question on one test set, and its answer.

    `averaged` are the labels that the macro AUROC is the mean over, `left_out` says why other
    labels are not among them. `test_sd` and `seed_sd` are the standard deviations of the difference
    that another test set and another training seed would bring.
    """

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
    test_sd: float | None = None
    seed_sd: float | None = None
    margin: float
    verdict: Verdict
    seeds: int
    averaged: list[str] = []
    left_out: dict[str, str] = {}
    flags: list[Flag] = []


Answered = Literal["shown", "not_shown", "not_estimable"]


class Answer(Wire):
    """A further registered question on one test set, and its answer.

    `low` and `high` bound the interval of level `level`: 95 % for superiority, 90 % for the other
    two, whose `p` is that of the one-sided test, of equivalence the larger of two. `p_holm` is
    over all further questions and test sets of the plan; "shown" is `p_holm` below .05, of
    superiority with a difference above zero.
    """

    experiment: UUID
    test: str
    arm: str
    reference: str
    kind: QuestionKind
    margin: float | None
    difference: float | None
    low: float | None
    high: float | None
    level: float
    p: float | None
    p_holm: float | None
    dof: float | None
    test_sd: float | None
    seed_sd: float | None
    verdict: Answered
    seeds: int
    flags: list[Flag] = []


class BaselineRow(Wire):
    """What trivial features of the images alone (border, black margins, exposure, sharpness, size)
    tell of one label of a test set: no disease, but how the images were taken.

    `auroc`, with its 95 % interval, is that of a logistic regression which scored each patient
    after it had been fitted to other patients of the same test set; `trained_auroc` that of one
    which was fitted to the training images that the report shows, null without any, or where they
    lack the label. `images` were read, at most 10,000. `feature` is the single one that tells
    most; `feature_auroc` is below .5 where it is smaller in images with the finding.
    """

    experiment: UUID
    test: str
    label: str
    images: int
    positives: int
    patients: int
    auroc: float
    low: float | None
    high: float | None
    trained_auroc: float | None = None
    trained_low: float | None = None
    trained_high: float | None = None
    feature: str
    feature_auroc: float


Limit = Annotated[int, Field(ge=1, le=1000)]
