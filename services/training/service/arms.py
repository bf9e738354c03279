"""Arms: what a preset expands to, which of them the plan names, and how long each trains.

Knows requests and numbers of images; no data, no rows.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from api_schemas.base import DataRef, DatasetRef, GenerationRef
from api_schemas.evaluation import PlannedArm
from api_schemas.training import (
    Arm,
    ClassifierSettings,
    ExperimentRequest,
    Source,
    Stage,
    SupplementPreset,
)
from services.kit.errors import Unprocessable


class ArmUnknown(Unprocessable):
    slug = "arm-unknown"
    title = "The plan names an arm that the experiment does not have"


class ArmsClash(Unprocessable):
    slug = "arms-clash"
    title = "Two arms of the experiment have the same name"


class StepsDisagree(Unprocessable):
    slug = "steps-disagree"
    title = "The steps of an arm's stages do not fit its schedule"


def expand(request: ExperimentRequest) -> list[Arm]:
    """The arms of a request, those of its preset written out. Raises `ArmsClash`."""
    if request.preset is None:
        return list(request.arms or [])
    arms = _supplement(request.preset)
    names = [arm.name for arm in arms]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ArmsClash(
            f"These ratios make arms of one name: {', '.join(twice)}", field="preset.ratios"
        )
    return arms


def ratio_name(ratio: float) -> str:
    return f"real+{100 * ratio:g}%"


def _supplement(preset: SupplementPreset) -> list[Arm]:
    real = Source(data=preset.real)
    largest = max(preset.ratios)

    def synthetic(ratio: float, *, shuffled: bool = False) -> Source:
        return Source(data=preset.synthetic, multiple=ratio, shuffled=shuffled)

    def arm(name: str, *sources: Source) -> Arm:
        return Arm(name=name, stages=[Stage(sources=list(sources))])

    return [
        arm("real", real).model_copy(update={"schedule": "own"}),
        arm("real_equal_steps", real),
        *(arm(ratio_name(k), real, synthetic(k)) for k in preset.ratios),
        arm("synthetic_only", synthetic(largest)),
        arm("shuffled", real, synthetic(largest, shuffled=True)),
    ]


def primary_of(request: ExperimentRequest, arms: Sequence[Arm]) -> str:
    """The name of the primary arm.

    Raises `ArmUnknown` when the plan's reference or primary arm is not among the arms, when
    both are the same, or when arms are given one by one and none is named primary.
    """
    names = [arm.name for arm in arms]
    plan = request.plan
    if plan.reference not in names:
        raise ArmUnknown(
            f"There is no arm '{plan.reference}' to compare with",
            field="plan.reference",
            accepted=names,
        )
    primary = plan.primary
    if primary is None and request.preset is not None:
        primary = ratio_name(max(request.preset.ratios))
    others = [name for name in names if name != plan.reference]
    if primary is None:
        raise ArmUnknown("Say which arm is the primary one", field="plan.primary", accepted=others)
    if primary not in others:
        reason = "is the reference" if primary == plan.reference else "is not an arm"
        raise ArmUnknown(
            f"'{primary}' {reason} and cannot be primary", field="plan.primary", accepted=others
        )
    return primary


def sources(arms: Sequence[Arm]) -> Iterator[Source]:
    for arm in arms:
        for stage in arm.stages:
            yield from stage.sources


def yardstick(request: ExperimentRequest, arms: Sequence[Arm]) -> DataRef:
    """The data whose training images `multiple` counts in: see `Source`."""
    reference = [arm for arm in arms if arm.name == request.plan.reference]
    first_of_all = list(sources([*reference, *arms]))
    for source in first_of_all:
        if isinstance(source.data, DatasetRef):
            return source.data
    return first_of_all[0].data


def planned_arm(arm: Arm) -> PlannedArm:
    """The arm as evaluation knows it, with its dose.

    The dose means something where one stage adds synthetic images to real ones and every label
    is its own image's: shuffled, synthetic-only and multi-stage arms have none.
    """
    used = arm.stages[0].sources
    real = sum(s.multiple for s in used if isinstance(s.data, DatasetRef))
    synthetic = sum(s.multiple for s in used if isinstance(s.data, GenerationRef))
    undosed = len(arm.stages) > 1 or not real or any(s.shuffled for s in used)
    return PlannedArm(name=arm.name, dose=None if undosed else synthetic / real)


def own_steps(stage: Stage, images: int, settings: ClassifierSettings) -> int:
    """The stage's own steps: as it says, else its epochs over its images."""
    return stage.steps or math.ceil(settings.epochs * images / settings.batch_size)


def steps_by_arm(
    arms: Sequence[Arm],
    primary: str,
    images: Mapping[str, Sequence[int]],
    settings: ClassifierSettings,
) -> dict[str, list[int]]:
    """Steps of every stage of every arm; `images` counts by arm and stage.

    Raises `StepsDisagree` when the explicit steps of an arm cannot add up to the primary arm's.
    """
    own = {
        arm.name: [
            own_steps(stage, n, settings)
            for stage, n in zip(arm.stages, images[arm.name], strict=True)
        ]
        for arm in arms
    }
    total = sum(own[primary])
    return {
        arm.name: own[arm.name]
        if arm.name == primary or arm.schedule == "own"
        else _shared(arm, images[arm.name], total)
        for arm in arms
    }


def _shared(arm: Arm, images: Sequence[int], total: int) -> list[int]:
    """`total` steps over the stages: those that say their steps keep them, the others share."""
    said = [stage.steps for stage in arm.stages]
    rest = total - sum(steps or 0 for steps in said)
    open_images = [n for steps, n in zip(said, images, strict=True) if steps is None]
    if rest < len(open_images) or (rest and not open_images):
        raise StepsDisagree(
            f"The stages of '{arm.name}' ask for {total - rest} steps and the primary arm trains "
            f"{total}: leave steps out, or give the arm its own schedule",
            field="arms",
        )
    shares = iter(_in_proportion(rest, open_images))
    return [next(shares) if steps is None else steps for steps in said]


def _in_proportion(total: int, weights: Sequence[int]) -> list[int]:
    """Whole numbers of at least 1 that add up to `total`, about in proportion to `weights`."""
    spare = total - len(weights)
    edges = [round(spare * sum(weights[:i]) / sum(weights)) for i in range(len(weights) + 1)]
    return [1 + high - low for low, high in pairwise(edges)]
