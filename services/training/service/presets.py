"""What presets expand to. Knows names of arms and their sources; no data, no steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from api_schemas.arms import (
    Arm,
    Preset,
    PretrainFinetunePreset,
    Source,
    Stage,
    SyntheticOnlyPreset,
)
from services.kit.errors import Unprocessable

EQUAL_STEPS = "real_equal_steps"


class ArmsClash(Unprocessable):
    slug = "arms-clash"
    title = "Two arms of the experiment have the same name"


@dataclass(frozen=True)
class _Expanded:
    """An arm that a preset expands to, and its role there: the name of a control, or a ratio."""

    arm: Arm
    role: str
    preset: int
    fraction: float

    @property
    def block(self) -> tuple[int, float]:
        """Arms of one regime at one share of the real patients: what may be compared."""
        return self.preset, self.fraction


def expand_presets(presets: Sequence[Preset]) -> list[Arm]:
    """The arms of all presets; what is the same arm twice appears once, under its first name.

    Raises `ArmsClash` for different arms of one name.
    """
    named: dict[str, str] = {}
    arms: dict[str, Arm] = {}
    for each in _expanded(presets):
        what, name = _content(presets, each), each.arm.name
        if named.get(name, what) != what:
            raise ArmsClash(
                f"There is another arm '{name}': ratios that read alike, or other data",
                field=preset_field(presets, each.preset),
            )
        if what not in arms:
            arms[what], named[name] = each.arm, what
    return list(arms.values())


def own_references(presets: Sequence[Preset], reference: str) -> dict[str, str | None]:
    """The arm that each arm is compared with: what `reference` is in its regime and at its share of
    the real patients, such as `10%-real_equal_steps`, is the same of the others in theirs.

    Where there is none in theirs it is the control with equal steps, of this or of another preset;
    None where that is left out too, and of what is itself a reference.
    """
    expanded = list(_expanded(presets))
    first: dict[str, str] = {}
    for each in expanded:
        first.setdefault(_content(presets, each), each.arm.name)
    named = [(first[_content(presets, each)], each) for each in expanded]
    role = next((each.role for name, each in named if name == reference), EQUAL_STEPS)
    by_role = {(each.block, each.role): name for name, each in named}
    found: dict[str, str | None] = {}
    for name, each in named:
        of_real = replace(each, arm=_equal_steps(presets[each.preset], each.fraction))
        control = by_role.get((each.block, role)) or first.get(_content(presets, of_real))
        found.setdefault(name, None if control == name else control)
    return found


def _equal_steps(preset: Preset, fraction: float) -> Arm:
    name = _Names(preset, fraction).control(EQUAL_STEPS)
    return Arm(name=name, stages=[Stage(sources=[_Mix(preset, fraction).real])])


def _expanded(presets: Sequence[Preset]) -> Iterator[_Expanded]:
    for number, preset in enumerate(presets):
        for fraction in sorted(preset.real_fractions, reverse=True):
            whole = fraction == max(preset.real_fractions)
            for role, arm in _at(preset, fraction, whole=whole):
                yield _Expanded(arm, role, number, fraction)


def _content(presets: Sequence[Preset], of: _Expanded) -> str:
    """What an arm is, whatever its name. One without real images counts in its preset's."""
    real = presets[of.preset].real
    named = [source.data for stage in of.arm.stages for source in stage.sources]
    counted_in = "" if real in named else real.model_dump_json()
    return of.arm.model_dump_json(exclude={"name"}) + counted_in


def preset_field(presets: Sequence[Preset], number: int) -> str:
    """The field of a request in which a preset stands: a single one may stand for the list."""
    return "preset" if len(presets) == 1 else f"preset.{number}"


def reference_of(preset: Preset) -> str:
    return _Names(preset, max(preset.real_fractions)).control(EQUAL_STEPS)


def primary_of(preset: Preset) -> str:
    """The arm of the largest ratio with all real patients there are."""
    return _Names(preset, max(preset.real_fractions)).ratio(max(preset.ratios))


@dataclass(frozen=True)
class _Names:
    """How a preset calls its arms at a fraction of the real patients."""

    preset: Preset
    fraction: float

    def control(self, name: str) -> str:
        """`real` and `real_equal_steps` mean the same in all presets but that of another site."""
        of_regime = {"mix_sites": "mixed_"}
        if name == "shuffled":
            of_regime |= {"synthetic_only": "synthetic_", "pretrain_finetune": "pretrained_"}
        return self._prefix + of_regime.get(self.preset.name, "") + name

    def ratio(self, k: float) -> str:
        stem = {
            "supplement": "real+",
            "synthetic_only": "synthetic_",
            "mix_sites": "mixed+",
            "pretrain_finetune": "pretrained_",
        }[self.preset.name]
        return f"{self._prefix}{stem}{100 * k:g}%"

    @property
    def _prefix(self) -> str:
        return "" if self.fraction == 1 else f"{100 * self.fraction:g}%-"


def _at(preset: Preset, fraction: float, *, whole: bool) -> Iterator[tuple[str, Arm]]:
    """All arms at one fraction of the real patients, with their roles; `whole`: it is the largest
    one.
    """
    names, mix = _Names(preset, fraction), _Mix(preset, fraction)
    largest = max(preset.ratios)
    real = [Stage(sources=[mix.real])]
    if "real" in preset.controls:
        yield "real", Arm(name=names.control("real"), stages=real, schedule="own")
    if EQUAL_STEPS in preset.controls:
        yield EQUAL_STEPS, _equal_steps(preset, fraction)
    for k in preset.ratios:
        if k:
            yield f"{k:g}", Arm(name=names.ratio(k), stages=mix.stages(k))
    if whole and "synthetic_only" in preset.controls:
        only = [Stage(sources=[mix.synthetic(largest)])]
        yield "synthetic_only", Arm(name=names.control("synthetic_only"), stages=only)
    if whole and "shuffled" in preset.controls:
        dealt = mix.stages(largest, shuffled=True)
        yield "shuffled", Arm(name=names.control("shuffled"), stages=dealt)


@dataclass(frozen=True)
class _Mix:
    """The stages of a preset's arms."""

    preset: Preset
    fraction: float

    @property
    def real(self) -> Source:
        return Source(data=self.preset.real, fraction=self.fraction)

    def synthetic(self, k: float, *, shuffled: bool = False) -> Source:
        return Source(
            data=self.preset.synthetic, multiple=k, fraction=self.fraction, shuffled=shuffled
        )

    def stages(self, k: float, *, shuffled: bool = False) -> list[Stage]:
        """What the preset is about, with `k` synthetic images per real one."""
        preset, synthetic = self.preset, self.synthetic(k, shuffled=shuffled)
        if isinstance(preset, SyntheticOnlyPreset):
            return [Stage(sources=[synthetic])]
        if isinstance(preset, PretrainFinetunePreset):
            first = preset.synthetic_share
            return [
                Stage(sources=[synthetic], share=first),
                Stage(sources=[self.real], share=1 - first),
            ]
        return [Stage(sources=[self.real, synthetic])]
