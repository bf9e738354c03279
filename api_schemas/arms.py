"""Arms on the wire: what is trained on what, one by one or as a preset that expands to arms."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from api_schemas.base import DataRef, Wire
from api_schemas.selection import Filter

ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+%-]{0,59}$")]
Share = Annotated[float, Field(gt=0, le=1)]


class Source(Wire):
    """Images an arm trains on: split `train` of a dataset, or of a cohort.

    `multiple` counts in real training sets: 1 is as many images as split `train` of the arm's
    first dataset of real images holds (of its reference's first one, or of the first of any arm,
    where the arm itself has none). Real images are repeated beyond what a dataset holds; synthetic
    ones, of a cohort or of a dataset, never are. A cohort gives whole replicas first.

    `where` leaves only the images that meet it, and a multiple of 1 is then as many as the real
    training set has of such. `fraction` leaves that share of a dataset's patients, a smaller
    share being part of every larger one; a multiple of 1 shrinks with it, for cohorts too.
    `shuffled` permutes the labels among the source's images, another way for every seed.
    """

    data: DataRef
    multiple: float = Field(default=1.0, gt=0, le=100)
    fraction: Share = 1.0
    where: Filter | None = None
    shuffled: bool = False

    @field_validator("where")
    @classmethod
    def _of_split_train(cls, where: Filter | None) -> Filter | None:
        if where is not None and where.split:
            msg = "split: training takes split `train` of every source; leave it out"
            raise ValueError(msg)
        return where


class Stage(Wire):
    """Some steps of training on the union of `sources`: so many `steps`, or the `share` of the
    arm's steps.

    With neither: in the schedule `own` (and in the primary arm) the classifier's epochs over the
    stage's images; in the schedule `primary` what the arm's other stages leave of the primary
    arm's steps, shared by such stages in proportion to their images.
    """

    sources: list[Source] = Field(min_length=1, max_length=8)
    steps: int | None = Field(default=None, ge=1, le=10_000_000)
    share: Share | None = None

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None and self.share is not None:
            msg = "give steps or share, not both"
            raise ValueError(msg)
        return self


class Arm(Wire):
    """One way to train. `schedule` is `own` (epochs over its own images) or `primary` (as many
    steps as the primary arm, the fair comparison).
    """

    name: ArmName
    stages: list[Stage] = Field(min_length=1, max_length=4)
    schedule: Literal["own", "primary"] = "primary"

    @model_validator(mode="after")
    def _shares_are_all_of_it(self) -> Self:
        shares = [stage.share for stage in self.stages if stage.share is not None]
        if shares and (len(shares) < len(self.stages) or abs(sum(shares) - 1) > 1e-9):
            msg = "stages: shares are given for all stages of an arm, and add up to 1"
            raise ValueError(msg)
        return self


Control = Literal["real", "real_equal_steps", "synthetic_only", "shuffled"]


class Regime(Wire):
    """What the presets share: real and synthetic data, how much of it, and the controls.

    `ratios` count synthetic images per real one; 0 is the control `real_equal_steps` and makes no
    arm of its own. `real_fractions` below 1 repeat `real`, `real_equal_steps` and every ratio with
    that share of the real patients (`10%-real+100%`): what would synthetic data do for a
    smaller hospital? The other controls are made for the largest fraction only.
    """

    SHOWN: ClassVar[dict[str, Any]] = {
        "real": {"dataset": "019a0000-0000-7000-8000-000000000001"},
        "synthetic": {"generation": "019a0000-0000-7000-8000-000000000003"},
        "ratios": [1, 3],
    }
    """What the examples of all presets have."""

    real: DataRef
    synthetic: DataRef
    ratios: list[Annotated[float, Field(ge=0, le=100)]] = Field(
        default=[1.0], min_length=1, max_length=20
    )
    real_fractions: list[Share] = Field(default=[1.0], min_length=1, max_length=10)
    controls: list[Control] = ["real", "real_equal_steps", "shuffled"]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for field in ("ratios", "real_fractions", "controls"):
            values: list[object] = getattr(self, field)
            if len(set(values)) < len(values):
                msg = f"{field}: each at most once"
                raise ValueError(msg)
        if not any(self.ratios):
            msg = "ratios: at least one above 0; 0 is the control real_equal_steps"
            raise ValueError(msg)
        if 0 in self.ratios and "real_equal_steps" not in self.controls:
            msg = "ratios: 0 is the control real_equal_steps, which controls leaves out"
            raise ValueError(msg)
        if self.real == self.synthetic:
            msg = "synthetic: other data than in real"
            raise ValueError(msg)
        return self


class SupplementPreset(Regime):
    """The paper's supplementation with the controls it lacks.

    Expands to `real` (its own schedule), `real_equal_steps` (real images repeated),
    `real+{100 k}%` for each of `ratios`, `synthetic_only` and `shuffled` (largest ratio; synthetic
    labels permuted).
    """

    model_config = {"json_schema_extra": {"examples": [{"name": "supplement", **Regime.SHOWN}]}}

    name: Literal["supplement"] = "supplement"
    controls: list[Control] = ["real", "real_equal_steps", "synthetic_only", "shuffled"]


class SyntheticOnlyPreset(Regime):
    """`synthetic_{100 k}%` for each of `ratios`: no real image at all. `real` is for the controls,
    and is what the ratios count in.
    """

    model_config = {"json_schema_extra": {"examples": [{"name": "synthetic_only", **Regime.SHOWN}]}}

    name: Literal["synthetic_only"] = "synthetic_only"
    controls: list[Control] = ["real", "real_equal_steps"]

    @field_validator("controls")
    @classmethod
    def _not_itself(cls, controls: list[Control]) -> list[Control]:
        if "synthetic_only" in controls:
            msg = "synthetic_only is what this preset makes of every ratio; leave it out"
            raise ValueError(msg)
        return controls


class MixSitesPreset(Regime):
    """Real images of one site with synthetic ones of another: `mixed+{100 k}%`, and the controls
    `mixed_real`, `mixed_real_equal_steps`, `mixed_shuffled`. Ratios count in `real`.
    """

    model_config = {"json_schema_extra": {"examples": [{"name": "mix_sites", **Regime.SHOWN}]}}

    name: Literal["mix_sites"] = "mix_sites"


class PretrainFinetunePreset(Regime):
    """First synthetic images, for `synthetic_share` of the steps, then real ones:
    `pretrained_{100 k}%` for each of `ratios`, and the control `pretrained_shuffled`.
    """

    model_config = {
        "json_schema_extra": {"examples": [{"name": "pretrain_finetune", **Regime.SHOWN}]}
    }

    name: Literal["pretrain_finetune"] = "pretrain_finetune"
    synthetic_share: float = Field(default=0.5, gt=0, lt=1)


Preset = Annotated[
    SupplementPreset | SyntheticOnlyPreset | MixSitesPreset | PretrainFinetunePreset,
    Field(discriminator="name"),
]


def _listed(given: Any) -> Any:
    return given if given is None or isinstance(given, list) else [given]


Presets = Annotated[
    list[Preset],
    Field(min_length=1, max_length=8),
    BeforeValidator(_listed, json_schema_input_type=Preset | list[Preset]),
]
"""One preset or several: one study may hold several regimes. Arms that are the same appear once."""
