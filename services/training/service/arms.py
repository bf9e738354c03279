"""Arms: which of them the plan names, what their doses are, and how long each trains.

Knows requests and numbers of images; no data, no rows.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from api_schemas.arms import Arm, Source
from api_schemas.base import DataRef, DatasetRef, GenerationRef
from api_schemas.evaluation import PlannedArm
from api_schemas.training import ClassifierSettings, ExperimentRequest
from services.kit.errors import Unprocessable
from services.training.service import presets
from services.training.service.blueprint import ArmBlueprint, Blueprint


class ArmUnknown(Unprocessable):
    slug = "arm-unknown"
    title = "The plan names an arm that the experiment does not have"


class StepsDisagree(Unprocessable):
    slug = "steps-disagree"
    title = "The steps of an arm's stages do not fit its schedule"


def expand(request: ExperimentRequest) -> list[Arm]:
    """The arms of a request, those of its presets written out. Raises `ArmsClash`."""
    if request.preset is None:
        return list(request.arms or [])
    return presets.expand_presets(request.preset)


def reference_of(request: ExperimentRequest) -> str:
    """The name of the reference arm, whether or not there is such an arm."""
    if request.plan.reference is not None or request.preset is None:
        return request.plan.reference or presets.EQUAL_STEPS
    return presets.reference_of(request.preset[0])


def primary_of(request: ExperimentRequest, arms: Sequence[Arm]) -> str:
    """The name of the primary arm.

    Raises `ArmUnknown` when the plan's reference or primary arm is not among the arms, when
    both are the same, or when arms are given one by one and none is named primary.
    """
    names = [arm.name for arm in arms]
    reference = reference_of(request)
    if reference not in names:
        raise ArmUnknown(
            f"There is no arm '{reference}' to compare with",
            field="plan.reference",
            accepted=names,
        )
    primary = request.plan.primary
    if primary is None and request.preset is not None:
        primary = presets.primary_of(request.preset[0])
    others = [name for name in names if name != reference]
    if primary is None:
        raise ArmUnknown("Say which arm is the primary one", field="plan.primary", accepted=others)
    if primary not in others:
        reason = "is the reference" if primary == reference else "is not an arm"
        raise ArmUnknown(
            f"'{primary}' {reason} and cannot be primary", field="plan.primary", accepted=others
        )
    return primary


def sources(arms: Sequence[Arm]) -> Iterator[Source]:
    for arm in arms:
        for stage in arm.stages:
            yield from stage.sources


def yardstick(arm: Arm, arms: Sequence[Arm], reference: str) -> DataRef:
    """The data whose training images `multiple` counts in: see `Source`."""
    of_reference = [each for each in arms if each.name == reference]
    first_of_all = list(sources([arm, *of_reference, *arms]))
    for source in first_of_all:
        if isinstance(source.data, DatasetRef):
            return source.data
    return first_of_all[0].data


def planned_arms(
    arms: Sequence[Arm], reference: str, primary: str, known: Blueprint | None = None
) -> list[PlannedArm]:
    """The arms as evaluation knows them, with their doses: synthetic images per real one, as far
    as is known those that are really there.

    A dose means something along one axis: the primary arm's synthetic images added, in one stage
    and in any number, to the very real images of the reference arm. All else has none: shuffled
    labels, other data or selections, fewer real patients, several stages.
    """
    by_name = {arm.name: arm for arm in arms}
    real = _words(_real(by_name[reference]))
    added = {_once(source) for source in _synthetic(by_name[primary])}
    trained = {} if known is None else known.arms
    return [
        PlannedArm(name=arm.name, dose=_dose(arm, real, added, trained.get(arm.name)))
        for arm in arms
    ]


def _dose(arm: Arm, real: list[str], added: set[str], trained: ArmBlueprint | None) -> float | None:
    mine, synthetic = _real(arm), _synthetic(arm)
    if len(arm.stages) > 1 or not mine or _words(mine) != real:
        return None
    if any(source.shuffled or _once(source) not in added for source in synthetic):
        return None
    asked = sum(s.multiple for s in synthetic) / sum(s.multiple for s in mine)
    return asked if trained is None else asked * _there(arm, trained)


def _there(arm: Arm, trained: ArmBlueprint) -> float:
    """The share of the synthetic images asked for that was not withheld."""
    (listed,) = trained.listed
    there = sum(
        count
        for source, count in zip(arm.stages[0].sources, listed, strict=True)
        if isinstance(source.data, GenerationRef)
    )
    return there / (there + trained.withheld) if there else 1.0


def _real(arm: Arm) -> list[Source]:
    return [s for s in sources([arm]) if isinstance(s.data, DatasetRef)]


def _synthetic(arm: Arm) -> list[Source]:
    return [s for s in sources([arm]) if isinstance(s.data, GenerationRef)]


def _words(used: list[Source]) -> list[str]:
    return sorted(source.model_dump_json() for source in used)


def _once(source: Source) -> str:
    """What is taken, however much of it."""
    return source.model_dump_json(exclude={"multiple"})


def own_steps(arm: Arm, images: Sequence[int], settings: ClassifierSettings) -> list[int]:
    """Steps by stage: as they say, else epochs over the images; shares divide the arm's epochs."""

    def epochs(count: int) -> int:
        return math.ceil(settings.epochs * count / settings.batch_size)

    if arm.stages[0].share is not None:
        return _shared(arm, images, epochs(sum(images)))
    return [stage.steps or epochs(n) for stage, n in zip(arm.stages, images, strict=True)]


def steps_by_arm(
    arms: Sequence[Arm],
    primary: str,
    images: Mapping[str, Sequence[int]],
    settings: ClassifierSettings,
) -> dict[str, list[int]]:
    """Steps of every stage of every arm; `images` counts by arm and stage.

    Raises `StepsDisagree` when the explicit steps of an arm cannot add up to the primary arm's.
    """
    total = sum(own_steps(next(a for a in arms if a.name == primary), images[primary], settings))
    return {
        arm.name: own_steps(arm, images[arm.name], settings)
        if arm.name == primary or arm.schedule == "own"
        else _shared(arm, images[arm.name], total)
        for arm in arms
    }


def _shared(arm: Arm, images: Sequence[int], total: int) -> list[int]:
    """`total` steps over the stages: those that say their steps keep them, the others share."""
    said = [stage.steps for stage in arm.stages]
    rest = total - sum(steps or 0 for steps in said)
    weights = [
        stage.share or n for stage, n in zip(arm.stages, images, strict=True) if not stage.steps
    ]
    if rest < len(weights) or (rest and not weights):
        raise StepsDisagree(
            f"The stages of '{arm.name}' ask for {total - rest} steps and the primary arm trains "
            f"{total}: leave steps out, or give the arm its own schedule",
            field="arms",
        )
    shares = iter(_in_proportion(rest, weights) if weights else [])
    return [next(shares) if steps is None else steps for steps in said]


def _in_proportion(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers of at least 1 that add up to `total`, about in proportion to `weights`."""
    spare = total - len(weights)
    edges = [round(spare * sum(weights[:i]) / sum(weights)) for i in range(len(weights) + 1)]
    return [1 + high - low for low, high in pairwise(edges)]
