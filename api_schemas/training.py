"""Experiments on the wire: arms are stages of sources, and the analysis plan comes first."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from api_schemas.arms import Arm, ArmName, Presets
from api_schemas.base import (
    Damageable,
    DataRef,
    Digest,
    EvaluationSplit,
    JobView,
    Name,
    Problem,
    Seed,
    Wire,
)
from api_schemas.evaluation import Question
from api_schemas.findings import Finding
from api_schemas.planning import PowerAssumptions
from api_schemas.terms import Licence

TestName = ArmName


class LabelPolicy(Wire):
    """What training makes of uncertain (-1) and blank labels; evaluation ignores both."""

    uncertain: Literal["ignore", "0", "1"] = "ignore"
    blank: Literal["ignore", "0"] = "ignore"


class Pretrained(Wire):
    """Weights to begin with: a safetensors file of a ConvNeXt of the preset's shape, its tensors
    named as transformers, timm, torchvision or the network's authors do.

    `path` lies below a folder that may be imported from; of a `hub` model `model.safetensors` is
    fetched. A stem for colours is summed to one channel, the head is made anew. Other bytes than
    those of `sha256` are refused.
    """

    path: str | None = Field(default=None, min_length=1, max_length=1000)
    hub: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$", max_length=200
    )
    sha256: Digest

    @model_validator(mode="after")
    def _one_place(self) -> "Pretrained":
        if (self.path is None) == (self.hub is None):
            msg = "give exactly one of path and hub"
            raise ValueError(msg)
        return self


Keep = Literal["last", "best"]
Monitor = Literal["auroc", "loss"]


class _Defaults(TypedDict):
    epochs: float
    batch_size: int
    learning_rate: float
    weight_decay: float
    early_stopping: int | None
    keep: Keep
    keep_from: float
    monitor: Monitor
    precision: Literal["float32", "bfloat16"]


_DEFAULTS: Mapping[str, _Defaults] = {
    "fast": {
        "epochs": 10.0,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "weight_decay": 0.05,
        "early_stopping": None,
        "keep": "best",
        "keep_from": 0.25,
        "monitor": "loss",
        "precision": "float32",
    },
    "paper": {
        "epochs": 400.0,
        "batch_size": 128,
        "learning_rate": 1e-5,
        "weight_decay": 3e-4,
        "early_stopping": 5,
        "keep": "best",
        "keep_from": 0.0,
        "monitor": "loss",
        "precision": "bfloat16",
    },
}


def _of_preset(name: str, **limits: Any) -> Any:
    """A field that the preset fills where the request leaves it out."""
    told = ", ".join(f"{preset}: {of[name]}" for preset, of in _DEFAULTS.items())
    return Field(
        default_factory=lambda said: _DEFAULTS[said["preset"]][name],
        description=f"left out, the preset's ({told})".replace("None", "null"),
        **limits,
    )


def _keep_from(said: dict[str, Any]) -> float | None:
    return _DEFAULTS[said["preset"]]["keep_from"] if said["keep"] == "best" else None


def _monitor(said: dict[str, Any]) -> Monitor | None:
    if said["keep"] == "last" and said["early_stopping"] is None:
        return None
    return _DEFAULTS[said["preset"]]["monitor"]


class ClassifierSettings(Wire):
    """The classifier and its schedule; what is left out is the preset's, and what is kept of a
    request says it all.

    `fast` is a small ConvNeXt for CPUs, `paper` the published one: ConvNeXt-Base, Lion, mixup and
    cutmix, label smoothing, bfloat16 where the paper had float16. `epochs` are epochs of the arm
    that runs its own schedule (`real`: over real images; the primary arm: over its real and
    synthetic images). `keep` says which weights become the classifier: the averaged weights after
    the last step, or those of the best validation by `monitor` (macro AUROC, or loss) after the
    share `keep_from` of the steps. Of an arm with several stages only the last one is asked:
    weights from before the fine-tuning are not the fine-tuned classifier. `early_stopping` null:
    all steps are taken, else the patience in validations, counted where one may be kept.
    `class_weights` `balanced`: a label's positives weigh as much as its negatives, as they are
    known in training.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"preset": "fast", "epochs": 6},
                {
                    "preset": "paper",
                    "pretrained": {
                        "path": "weights/convnext-base-22k-1k.safetensors",
                        "sha256": "0" * 64,
                    },
                    "class_weights": "balanced",
                },
            ]
        }
    )

    preset: Literal["fast", "paper"] = "fast"
    epochs: float = _of_preset("epochs", gt=0, le=1000)
    batch_size: int = _of_preset("batch_size", ge=2, le=4096)
    learning_rate: float = _of_preset("learning_rate", gt=0, le=1)
    weight_decay: float = _of_preset("weight_decay", ge=0, le=10)
    validate_every: int | None = Field(
        default=None,
        ge=1,
        description="steps; null: `fast` at most 20 times a run, `paper` once an epoch of the "
        "arm with its own schedule",
    )
    early_stopping: int | None = _of_preset("early_stopping", ge=1, le=1000)
    keep: Keep = _of_preset("keep")
    keep_from: float | None = Field(
        default_factory=_keep_from,
        ge=0,
        lt=1,
        description='a share of the last stage\'s steps; with "keep": "best" only (left out, '
        "the preset's: fast 0.25, paper 0)",
    )
    monitor: Monitor | None = Field(
        default_factory=_monitor,
        description='with "keep": "best" or early_stopping only (left out, the preset\'s: loss)',
    )
    precision: Literal["float32", "bfloat16"] = _of_preset("precision")
    class_weights: Literal["none", "balanced"] = "none"
    pretrained: Pretrained | None = None

    @model_validator(mode="after")
    def _acts(self) -> "ClassifierSettings":
        """Every option that is given acts, and none that is needed is null."""
        best = self.keep == "best"
        for field, value, needed, when in (
            ("keep_from", self.keep_from, best, '"keep": "best"'),
            (
                "monitor",
                self.monitor,
                best or self.early_stopping is not None,
                '"keep": "best" or early_stopping',
            ),
        ):
            if needed != (value is not None):
                how = "needs a value with" if needed else "acts only with"
                msg = f"{field}: {how} {when}"
                raise ValueError(msg)
        return self


class EvaluationSet(Wire):
    data: DataRef
    split: EvaluationSplit


class TestSet(Wire):
    """A named set that is scored once, with the weights that were kept."""

    name: TestName
    data: DataRef
    split: EvaluationSplit = "test"


class PlanRequest(Wire):
    """The analysis, registered before anything trains. `margin` is the equivalence margin.

    `primary` null: the arm of the largest ratio of the first preset; arms given one by one must
    name it. It is compared with `reference`; null: `real_equal_steps` of its own regime and share
    of the patients. Every other arm of a preset is compared with what is the same in its own regime
    and at its own share of the patients (`10%-real+100%` with `10%-real_equal_steps`), and arms
    given one by one with `reference`. `references` names another for an arm, or the arm itself if
    it is to be compared with none. `questions` are further registered ones, of any two arms.

    What is compared is the macro AUROC, the mean over the same labels on every test set: of
    `averaged` (null: all that are trained) those that have `fewest_patients` patients or more with,
    and as many without the finding on each of them.
    """

    reference: ArmName | None = None
    primary: ArmName | None = None
    references: dict[ArmName, ArmName] = Field(default={}, max_length=200)
    questions: list[Question] = Field(default=[], max_length=100)
    margin: float = Field(default=0.005, gt=0, lt=0.5)
    averaged: list[Finding] | None = Field(default=None, min_length=1)
    fewest_patients: int = Field(default=2, ge=2, le=1000)


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
        description="that are trained; null: every label with both classes in training and in "
        "some test set",
    )
    label_policy: LabelPolicy = LabelPolicy()
    plan: PlanRequest = PlanRequest()
    power: PowerAssumptions = Field(
        default=PowerAssumptions(),
        description="for the dry run's smallest difference alone; no part of the registered plan",
    )
    extends: UUID | None = Field(
        default=None,
        description="an experiment whose results were seen before this one was designed: what it "
        "has trained is not trained again, and all results are marked exploratory",
    )
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
            ("plan", self.plan.averaged or []),
            ("plan.questions", [(q.arm, q.reference, q.kind) for q in self.plan.questions]),
        ):
            again = [place for place, name in enumerate(names) if name in names[:place]]
            if again:
                msg = f"{what}: each at most once; {what}.{again[0]} stands before it too"
                raise ValueError(msg)
        stages = [stage for arm in self.arms or [] for stage in arm.stages]
        usual = _DEFAULTS[self.classifier.preset]["epochs"]
        if stages and all(s.steps is not None for s in stages) and self.classifier.epochs != usual:
            msg = "classifier.epochs: not where every stage says its steps"
            raise ValueError(msg)
        return self


class ArmView(Wire):
    """An arm as it was expanded, and its runs. `images`, `steps`, and how many images it lacks that
    were `withheld` from its cohort, are known once planned.
    """

    arm: Arm
    images: int | None = None
    withheld: int | None = None
    steps: int | None = None
    runs: list["RunView"] = []


class CurvePoint(Wire):
    """One validation of a run: the mean training loss since the last one, what validation gave,
    how fast training went, and the most memory that a GPU held.
    """

    step: int
    loss: float
    auroc: float | None = None
    validation_loss: float | None = None
    images_per_s: float | None = None
    memory_mib: int | None = None


class RunView(Wire):
    """`problem` says why it failed for good. `reused`: a run with the same inputs had been trained
    before, and its classifier was copied. `steps` were taken so far, `best_step` is the one whose
    weights were kept. `curve` holds the validations so far.
    """

    seed: int
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    validation_auroc: float | None = None
    steps: int = 0
    best_step: int | None = None
    classifier: UUID | None = None
    reused: bool = False
    problem: Problem | None = None
    curve: list[CurvePoint] = []


class ExperimentView(Damageable):
    """`labels` is the one list for all arms and test sets, known once planned; `left_out` says why
    others are not in it, `not_estimable` which of them lack a class in a test set. `waived` names
    every guard that was waived, `failed_runs` counts the runs that failed for good: what is left
    is evaluated. `licence` is the strictest of all its data, `flags` may hold
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
    failed_runs: int = 0
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
