"""From a request and its data to a blueprint: the same at POST and in a blocked job's first
slice. While some of the data is in the making, what can be known by now is checked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from api_schemas.arms import Arm
from api_schemas.base import DataRef
from api_schemas.generators import Seen
from api_schemas.training import ExperimentRequest
from services.kit.auth import Caller
from services.training.service import checks
from services.training.service.arms import (
    contrasts_of,
    expand,
    primary_of,
    sources,
    steps_by_arm,
    synthetic_datasets,
)
from services.training.service.blueprint import ArmBlueprint, Blueprint
from services.training.service.catalogue import Catalogue, Listed, ref_key
from services.training.service.checks import LeakageFound, NoImages
from services.training.service.counting import TestCounts, count
from services.training.service.lists import Count, Lists
from services.training.service.samples import Rows, Samples, read_samples


@dataclass(frozen=True)
class Planned:
    """How an experiment is trained, and what its test sets know of its labels."""

    blueprint: Blueprint
    validation_images: int
    tests: list[TestCounts]


class Planner:
    """Reads manifests and finds out how an experiment is trained, or why it must not be."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def plan_if_ready(
        self, caller: Caller, request: ExperimentRequest, listed: Mapping[DataRef, Listed]
    ) -> Planned | None:
        """None while some of the data is in the making; raises what can be known either way."""
        if all(each.ready for each in listed.values()):
            return self.plan(caller, request, listed)
        self.check(caller, request, listed)
        return None

    def plan(
        self, caller: Caller, request: ExperimentRequest, listed: Mapping[DataRef, Listed]
    ) -> Planned:
        """Raises the problems of `checks`. All data must be ready."""
        arms = expand(request)
        contrasts = contrasts_of(request, arms)
        kinds = {ref: each.kind for ref, each in listed.items()}
        synthetic = synthetic_datasets(request, kinds)
        samples = {ref: self._read(caller, ref) for ref in listed}
        checks.known_places(request, samples)
        training = _training_rows(arms, samples, listed)
        held = checks.evaluation_sets(request, samples)
        taught = checks.taught(arms, samples, request.label_policy)
        choice = checks.choose_labels(request, samples, training, held, taught)
        images = Lists(samples, listed, synthetic).by_arm(arms, contrasts)
        checks.no_shared_patients(samples, training, held)
        known = self._catalogue.generators(caller, listed.values())
        seen = {each: self._catalogue.seen(caller, each) for each in sorted(known)}
        makers = {
            field: self._catalogue.generators(caller, [listed[ref]])
            for field, (ref, _) in held.items()
        }
        waived = [
            *checks.extension(request),
            *_leakage(request, samples, training, held, seen),
            *checks.thin_arms(taught, choice.labels),
            *checks.unscreened(listed.values()),
            *checks.made_elsewhere(request, training, listed, known),
            *checks.synthetic_in_place_of_real(request, held, listed),
            *checks.shared_with_generators(samples, training, makers, seen),
        ]
        size_px = _known_size(listed)
        checks.large_enough(request.classifier, size_px)
        by_stage = _listed_images(images)
        steps = steps_by_arm(arms, primary_of(request, arms), by_stage, request.classifier)
        blueprint = Blueprint(
            labels=choice.labels,
            size_px=size_px,
            manifests={ref_key(ref): each.digest or "" for ref, each in listed.items()},
            arms={arm.name: _arm_blueprint(images[arm.name], steps[arm.name]) for arm in arms},
            waived=waived,
            synthetic=sorted(ref_key(ref) for ref in synthetic),
            left_out=choice.left_out,
            not_estimable=choice.not_estimable,
        )
        tests = [
            count(test.name, samples[test.data], held[f"tests.{i}"][1], choice.labels)
            for i, test in enumerate(request.tests)
        ]
        return Planned(blueprint, len(held["validation"][1]), tests)

    def check(
        self, caller: Caller, request: ExperimentRequest, listed: Mapping[DataRef, Listed]
    ) -> None:
        """Raises what `plan` would raise, while some of the data is in the making.

        Judges by the data that is ready, by whom generators saw or will see, and by what cohorts
        were ordered to be; `plan` then judges by what they are.
        """
        arms = expand(request)
        contrasts = contrasts_of(request, arms)
        kinds = {ref: each.kind for ref, each in listed.items()}
        synthetic = synthetic_datasets(request, kinds)
        samples = self._samples_by_now(caller, listed)
        checks.known_places(request, samples)
        training = _training_rows(arms, samples, listed)
        held = checks.evaluation_sets(request, samples)
        complete = all(source.data in samples for source in sources(arms))
        taught = checks.taught(arms, samples, request.label_policy)
        checks.choose_labels(request, samples, training, held, taught, complete=complete)
        lists = Lists(samples, listed, synthetic)
        countable = lists.check(arms, contrasts)
        checks.no_shared_patients(samples, training, held)
        generators = self._catalogue.generators(caller, listed.values())
        seen = self._catalogue.expected_seen(caller, generators)
        _leakage(request, samples, training, held, seen)
        size_px = checks.one_size(list(listed.values()))
        if size_px is not None:
            checks.large_enough(request.classifier, size_px)
        if countable:
            by_stage = _listed_images(lists.by_arm(arms, contrasts))
            steps_by_arm(arms, primary_of(request, arms), by_stage, request.classifier)

    def _read(self, caller: Caller, ref: DataRef) -> Samples:
        return read_samples(self._catalogue.manifest(caller, ref))

    def _samples_by_now(
        self, caller: Caller, listed: Mapping[DataRef, Listed]
    ) -> dict[DataRef, Samples]:
        """Those of the data that is ready, and of cohorts whose order says what they will hold."""
        known: dict[DataRef, Samples] = {}
        for ref, each in listed.items():
            if each.ready:
                known[ref] = self._read(caller, ref)
            elif each.cohort is not None:
                expected = self._catalogue.expected(caller, each.cohort)
                if expected is not None:
                    known[ref] = expected
        return known


def _leakage(
    request: ExperimentRequest,
    samples: Mapping[DataRef, Samples],
    training: checks.Sets,
    held: checks.Sets,
    seen: Mapping[UUID, Seen | None],
) -> list[str]:
    """What is waived; raises `LeakageFound` unless the request allows it."""
    found = [
        *checks.shared_pictures(samples, training, held),
        *checks.seen_by_generators(samples, held, seen),
    ]
    if found and not request.allow_leakage:
        field, what = found[0]
        raise LeakageFound(
            f"Of this set, {what}",
            field=field,
            accepted='a set of other patients; or {"allow_leakage": true}, and it is reported',
        )
    return [f"leakage: of {field}, {what}" for field, what in found]


def _listed_images(images: Mapping[str, list[list[Count]]]) -> dict[str, list[int]]:
    """Images by arm and stage."""
    return {
        name: [sum(each.listed for each in stage) for stage in stages]
        for name, stages in images.items()
    }


def _arm_blueprint(counts: list[list[Count]], steps: list[int]) -> ArmBlueprint:
    return ArmBlueprint(
        listed=[[each.listed for each in stage] for stage in counts],
        steps=steps,
        withheld=sum(each.withheld for stage in counts for each in stage),
    )


def _known_size(listed: Mapping[DataRef, Listed]) -> int:
    size_px = checks.one_size(list(listed.values()))
    assert size_px is not None  # noqa: S101 - all data is ready
    return size_px


def _training_rows(
    arms: Sequence[Arm], samples: Mapping[DataRef, Samples], listed: Mapping[DataRef, Listed]
) -> dict[str, tuple[DataRef, Rows]]:
    """The rows that may be trained on, of every source in any arm whose samples are known; raises
    `NoImages`.
    """
    found: dict[str, tuple[DataRef, Rows]] = {}
    for source in sources(arms):
        if source.data not in samples:
            continue
        rows = samples[source.data].split("train")
        if not len(rows):
            raise NoImages("Its split 'train' is empty", field=listed[source.data].field)
        found[listed[source.data].field] = (source.data, rows)
    return found
