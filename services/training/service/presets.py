"""What presets expand to. Knows names of arms and their sources; no data, no steps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


def expand_presets(presets: Sequence[Preset]) -> list[Arm]:
    """The arms of all presets; what is the same arm twice appears once, under its first name.

    Raises `ArmsClash` for different arms of one name.
    """
    kept: dict[str, Arm] = {}
    seen: set[str] = set()
    for number, preset in enumerate(presets):
        for arm in _arms(preset):
            what = arm.model_dump_json(exclude={"name"})
            if arm.name in kept and kept[arm.name].model_dump_json(exclude={"name"}) != what:
                raise ArmsClash(
                    f"There is another arm '{arm.name}': ratios that read alike, or other data",
                    field=preset_field(presets, number),
                )
            if what not in seen:
                kept[arm.name] = arm
                seen.add(what)
    return list(kept.values())


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


def _arms(preset: Preset) -> Iterator[Arm]:
    fractions = sorted(preset.real_fractions, reverse=True)
    for fraction in fractions:
        yield from _at(preset, fraction, whole=fraction == fractions[0])


def _at(preset: Preset, fraction: float, *, whole: bool) -> Iterator[Arm]:
    """All arms at one fraction of the real patients; `whole`: it is the largest one."""
    names, mix = _Names(preset, fraction), _Mix(preset, fraction)
    largest = max(preset.ratios)
    real = [Stage(sources=[mix.real])]
    if "real" in preset.controls:
        yield Arm(name=names.control("real"), stages=real, schedule="own")
    if EQUAL_STEPS in preset.controls:
        yield Arm(name=names.control(EQUAL_STEPS), stages=real)
    for k in preset.ratios:
        if k:
            yield Arm(name=names.ratio(k), stages=mix.stages(k))
    if whole and "synthetic_only" in preset.controls:
        only = [Stage(sources=[mix.synthetic(largest)])]
        yield Arm(name=names.control("synthetic_only"), stages=only)
    if whole and "shuffled" in preset.controls:
        yield Arm(name=names.control("shuffled"), stages=mix.stages(largest, shuffled=True))


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
