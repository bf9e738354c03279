"""Arms: which of them the plan names, what their doses are, and how long each trains.

Knows requests and numbers of images; no data, no rows.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from api_schemas.arms import Arm, Source
from api_schemas.base import DataRef, DatasetRef, GenerationRef
from api_schemas.datasets import DatasetKind
from api_schemas.evaluation import PlannedArm, Question
from api_schemas.training import ClassifierSettings, ExperimentRequest
from services.kit.errors import Unprocessable
from services.training.service import presets
from services.training.service.blueprint import ArmBlueprint, Blueprint


class ArmUnknown(Unprocessable):
    slug = "arm-unknown"
    title = "The plan names an arm that the experiment does not have"


class QuestionInconsistent(Unprocessable):
    slug = "question-inconsistent"
    title = "A registered question cannot be asked of the experiment's arms"


class StepsDisagree(Unprocessable):
    slug = "steps-disagree"
    title = "The steps of an arm's stages do not fit its schedule"


def expand(request: ExperimentRequest) -> list[Arm]:
    """The arms of a request, those of its presets written out. Raises `ArmsClash`."""
    if request.preset is None:
        return list(request.arms or [])
    return presets.expand_presets(request.preset)


def reference_of(request: ExperimentRequest) -> str:
    """The name of the primary arm's reference, whether or not there is such an arm: of presets the
    control with equal steps of the primary arm's own regime and share of the patients.
    """
    if request.plan.reference is not None or request.preset is None:
        return request.plan.reference or presets.EQUAL_STEPS
    usual = presets.reference_of(request.preset[0])
    own = presets.own_references(request.preset, usual)
    return own.get(request.plan.primary or "") or usual


def contrasts_of(request: ExperimentRequest, arms: Sequence[Arm]) -> dict[str, str | None]:
    """With which arm each is compared; None of those that are compared with none.

    Raises `ArmUnknown` where the plan names an arm that is not there, compares the primary arm with
    two, or leads from an arm back to it.
    """
    primary, reference = primary_of(request, arms), reference_of(request)
    if request.preset is None:
        own = {arm.name: None if arm.name == reference else reference for arm in arms}
    else:
        own = presets.own_references(request.preset, reference)
    own[primary] = reference
    for arm, named in request.plan.references.items():
        field = f"plan.references.{arm}"
        for name in (arm, named):
            if name not in own:
                raise ArmUnknown(f"There is no arm '{name}'", field=field, accepted=list(own))
        if arm == primary and named != reference:
            raise ArmUnknown(
                f"The primary arm is compared with '{reference}': name another as plan.reference",
                field=field,
                accepted=reference,
            )
        own[arm] = None if named == arm else named
    for arm in request.plan.references:
        if arm in _passed(arm, own):
            raise ArmUnknown(
                "References lead back to the same arm; one that names itself is compared with none",
                field=f"plan.references.{arm}",
            )
    return own


def questions_of(request: ExperimentRequest, arms: Sequence[Arm]) -> list[Question]:
    """The further registered questions; raises `QuestionInconsistent`."""
    names = [arm.name for arm in arms]
    for index, question in enumerate(request.plan.questions):
        found = question.contradiction(names)
        if found is not None:
            name, reason = found
            raise QuestionInconsistent(
                reason,
                field=f"plan.questions.{index}.{name}",
                accepted=names if name != "margin" else None,
            )
    return request.plan.questions


def _passed(arm: str, own: Mapping[str, str | None]) -> list[str]:
    """The arms on the way from `arm` over its reference, and so on, until it ends or repeats."""
    passed: list[str] = []
    at = own[arm]
    while at is not None and at not in passed:
        passed.append(at)
        at = own[at]
    return passed


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


def yardstick(
    arm: Arm,
    arms: Sequence[Arm],
    reference: str | None,
    synthetic: Collection[DataRef] = (),
) -> DataRef:
    """The data whose training images `multiple` counts in: see `Source`. Its `reference`
    is that of the arm.
    """
    of_reference = [each for each in arms if each.name == reference]
    first_of_all = list(sources([arm, *of_reference, *arms]))
    for source in first_of_all:
        if not _is_synthetic(source, synthetic):
            return source.data
    return first_of_all[0].data


def planned_arms(
    arms: Sequence[Arm],
    contrasts: Mapping[str, str | None],
    primary: str,
    synthetic: Collection[DataRef] = (),
    known: Blueprint | None = None,
) -> list[PlannedArm]:
    """The arms as evaluation knows them, with whom they are compared and with their doses:
    synthetic images per real one, as far as is known those that are really there. `synthetic` names
    the datasets of such images.

    A dose means something along one axis: the same synthetic images added, in one stage and in any
    number, to the very real images of the arm's reference. They are those of the primary arm; among
    the arms of another reference, those of the first that adds any. All else has none: shuffled
    labels, other data or selections, fewer real patients, several stages.
    """
    by_name = {arm.name: arm for arm in arms}
    added: dict[str, set[str]] = {}
    for arm in sorted(arms, key=lambda arm: arm.name != primary):
        reference = contrasts[arm.name]
        if reference is not None and (adds := _added(arm, by_name[reference], synthetic)):
            added.setdefault(reference, adds)
    trained = {} if known is None else known.arms

    def dose(arm: Arm) -> float | None:
        reference = contrasts[arm.name] or arm.name
        adds = _added(arm, by_name[reference], synthetic)
        if adds is None or not adds <= added.get(reference, set()):
            return None
        mine, made = _parted(arm, synthetic)
        asked = sum(s.multiple for s in made) / sum(s.multiple for s in mine)
        there = trained.get(arm.name)
        return asked if there is None else asked * _there(arm, there, synthetic)

    return [
        PlannedArm(name=arm.name, dose=dose(arm), reference=contrasts[arm.name] or arm.name)
        for arm in arms
    ]


def _added(arm: Arm, reference: Arm, synthetic: Collection[DataRef]) -> set[str] | None:
    """The synthetic images that the arm adds, in one stage and with their own labels, to the very
    real ones of the reference; None where it does anything else.
    """
    mine, made = _parted(arm, synthetic)
    theirs, _ = _parted(reference, synthetic)
    if len(arm.stages) > 1 or not mine or _words(mine) != _words(theirs):
        return None
    return None if any(each.shuffled for each in made) else {_once(each) for each in made}


def _there(arm: Arm, trained: ArmBlueprint, synthetic: Collection[DataRef]) -> float:
    """The share of the synthetic images asked for that was not withheld."""
    (listed,) = trained.listed
    there = sum(
        count
        for source, count in zip(arm.stages[0].sources, listed, strict=True)
        if _is_synthetic(source, synthetic)
    )
    return there / (there + trained.withheld) if there else 1.0


def synthetic_datasets(
    request: ExperimentRequest, kinds: Mapping[DataRef, DatasetKind]
) -> list[DataRef]:
    """The datasets that are trained on as synthetic images: those that a preset calls so, and those
    that hold nothing else, unless a preset calls them real.
    """
    asked = [preset.synthetic for preset in request.preset or ()]
    made = [ref for ref, kind in kinds.items() if kind is DatasetKind.SYNTHETIC]
    real = [preset.real for preset in request.preset or ()]
    datasets = [ref for ref in [*asked, *made] if isinstance(ref, DatasetRef)]
    return [ref for ref in dict.fromkeys(datasets) if ref not in real]


def _parted(arm: Arm, synthetic: Collection[DataRef]) -> tuple[list[Source], list[Source]]:
    """The arm's sources of real images, and those of synthetic ones."""
    of_arm = list(sources([arm]))
    real = [source for source in of_arm if not _is_synthetic(source, synthetic)]
    return real, [source for source in of_arm if _is_synthetic(source, synthetic)]


def _is_synthetic(source: Source, synthetic: Collection[DataRef]) -> bool:
    return isinstance(source.data, GenerationRef) or source.data in synthetic


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
