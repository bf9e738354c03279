"""Experiments on the wire: arms are stages of sources, and the analysis plan comes first."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from api_schemas.arms import Arm, ArmName, Presets
from api_schemas.base import DataRef, Digest, EvaluationSplit, JobView, Name, Seed, Wire
from api_schemas.findings import Finding
from api_schemas.terms import Licence

TestName = ArmName


class LabelPolicy(Wire):
    """What training makes of uncertain (-1) and blank labels; evaluation ignores both."""

    uncertain: Literal["ignore", "0", "1"] = "ignore"
    blank: Literal["ignore", "0"] = "ignore"


class ClassifierSettings(Wire):
    """The classifier and its schedule. `fast` is a small ConvNeXt for CPUs.

    `epochs` are epochs of the arm that runs its own schedule (`real`: over real images;
    the primary arm: over its real and synthetic images). The best checkpoint by validation
    macro AUROC is kept; `early_stopping` null: after all steps, else the patience in validations.
    """

    preset: Literal["fast"] = "fast"
    epochs: float = Field(default=10.0, gt=0, le=1000)
    batch_size: int = Field(default=32, ge=2, le=4096)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    weight_decay: float = Field(default=0.05, ge=0, le=10)
    validate_every: int | None = Field(
        default=None, ge=1, description="steps; null: at most 20 times a run"
    )
    early_stopping: int | None = Field(default=None, ge=1, le=1000)


class EvaluationSet(Wire):
    data: DataRef
    split: EvaluationSplit


class TestSet(Wire):
    """A named set that is scored once, with the best checkpoint."""

    name: TestName
    data: DataRef
    split: EvaluationSplit = "test"


class PlanRequest(Wire):
    """The analysis, registered before anything trains. `margin` is the equivalence margin.

    `reference` null: `real_equal_steps`, of the first preset. `primary` null: the arm of that
    preset's largest ratio; arms given one by one must name it.
    """

    reference: ArmName | None = None
    primary: ArmName | None = None
    margin: float = Field(default=0.005, gt=0, lt=0.5)


class ExperimentRequest(Wire):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "does it help?",
                    "preset": {
                        "name": "supplement",
                        "real": {"dataset": "019a0000-0000-7000-8000-000000000001"},
                        "synthetic": {"generation": "019a0000-0000-7000-8000-000000000003"},
                        "ratios": [1, 3],
                    },
                    "seeds": [0, 1, 2, 3, 4],
                    "validation": {
                        "data": {"dataset": "019a0000-0000-7000-8000-000000000001"},
                        "split": "validation",
                    },
                    "tests": [
                        {
                            "name": "internal",
                            "data": {"dataset": "019a0000-0000-7000-8000-000000000001"},
                        }
                    ],
                }
            ]
        }
    )

    name: Name
    arms: list[Arm] | None = Field(default=None, min_length=1, max_length=200)
    preset: Presets | None = None
    seeds: list[Seed] = Field(default=[0, 1, 2, 3, 4], min_length=1, max_length=100)
    classifier: ClassifierSettings = ClassifierSettings()
    validation: EvaluationSet
    tests: list[TestSet] = Field(min_length=1, max_length=20)
    labels: list[Finding] | None = Field(
        default=None,
        min_length=1,
        description="null: every label with both classes in training and in some test set",
    )
    label_policy: LabelPolicy = LabelPolicy()
    plan: PlanRequest = PlanRequest()
    dry_run: bool = Field(
        default=False, description="only say what it would train, show and cost; nothing is made"
    )
    allow_leakage: bool = Field(
        default=False, description="run although a generator saw evaluation patients; reported"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "ExperimentRequest":
        if (self.arms is None) == (self.preset is None):
            msg = "give exactly one of arms and preset"
            raise ValueError(msg)
        for what, names in (
            ("arms", [a.name for a in self.arms or []]),
            ("tests", [t.name for t in self.tests]),
            ("tests", [(t.data, t.split) for t in self.tests]),
            ("seeds", self.seeds),
            ("labels", self.labels or []),
        ):
            if len(set(names)) < len(names):
                msg = f"{what}: each at most once"
                raise ValueError(msg)
        return self


class ArmView(Wire):
    """An arm as it was expanded, and its runs. `images` and `steps` are known once planned."""

    arm: Arm
    images: int | None = None
    steps: int | None = None
    runs: list["RunView"] = []


class RunView(Wire):
    seed: int
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    validation_auroc: float | None = None
    best_step: int | None = None
    classifier: UUID | None = None


class ExperimentView(Wire):
    """`labels` is the one list for all arms and test sets, known once planned; `left_out` says why
    others are not in it, `not_estimable` which of them lack a class in a test set. `waived` names
    every guard that was waived. `licence` is the strictest of all its data, `flags` may hold
    `withdrawn-patients` once it is planned; null in lists, where nobody looks.
    """

    id: UUID
    name: str
    request: ExperimentRequest
    plan: UUID
    labels: list[Finding] | None = None
    left_out: dict[Finding, str] = {}
    not_estimable: dict[str, list[Finding]] = {}
    waived: list[str] = []
    licence: Licence = Licence()
    flags: list[str] | None = None
    created_at: datetime
    job: JobView


class ClassifierView(Wire):
    """One trained classifier (an arm and seed of an experiment); `digest`: SHA-256 of weights.

    `licence` and `flags` are its experiment's.
    """

    id: UUID
    experiment: UUID
    arm: str
    seed: int
    labels: list[Finding]
    size_px: int
    best_step: int
    validation_auroc: float | None
    digest: Digest
    licence: Licence = Licence()
    flags: list[str] = []
    created_at: datetime
