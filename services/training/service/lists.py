"""How many images each arm lists of each of its sources, and whether they are there."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from api_schemas.arms import Arm, Source
from api_schemas.base import DataRef, DatasetRef
from api_schemas.generation import GenerateRequest, GenerationView
from services.training.service.arms import sources, yardstick
from services.training.service.catalogue import Listed
from services.training.service.checks import CohortTooSmall, NoImages
from services.training.service.pools import held, unit
from services.training.service.samples import Samples

MOST_REPLICAS = 100
"""Of one generation."""
MOST_WITHHELD = 0.1
"""An arm that lacks a larger share of a source is refused: it would not be what its name says."""


@dataclass(frozen=True)
class Count:
    """Images that a source lists, and how many more were asked for and had been withheld."""

    listed: int
    withheld: int = 0


class Lists:
    """Counts by the samples of an experiment's data, as far as they are known. Raises `NoImages`
    and `CohortTooSmall`.
    """

    def __init__(
        self,
        samples: Mapping[DataRef, Samples],
        listed: Mapping[DataRef, Listed],
        synthetic: Collection[DataRef] = (),
    ) -> None:
        self._samples = samples
        self._listed = listed
        self._synthetic = synthetic

    def by_arm(
        self, arms: Sequence[Arm], references: Mapping[str, str | None]
    ) -> dict[str, list[list[Count]]]:
        """By arm, stage and source. `references`: of every arm."""
        counts: dict[str, list[list[Count]]] = {}
        for arm in arms:
            yard = yardstick(arm, arms, references[arm.name], self._synthetic)
            counts[arm.name] = [
                [self._count(arm, source, yard, self._held(source)) for source in stage.sources]
                for stage in arm.stages
            ]
        return counts

    def check(self, arms: Sequence[Arm], references: Mapping[str, str | None]) -> bool:
        """Whether all can be counted by now; raises what counting would, of what can."""
        complete = True
        for arm in arms:
            yard = yardstick(arm, arms, references[arm.name], self._synthetic)
            for source in sources([arm]):
                there = self._most(source)
                if yard in self._samples and there is not None:
                    self._count(arm, source, yard, there)
                complete &= yard in self._samples and source.data in self._samples
        return complete

    def _held(self, source: Source) -> int:
        return held(self._samples[source.data], source)

    def _most(self, source: Source) -> int | None:
        """How many images the source holds, or at most will hold; None while nobody knows."""
        if source.data in self._samples:
            return self._held(source)
        cohort = self._listed[source.data].cohort
        return (cohort.images or None) if cohort is not None else None

    def _count(self, arm: Arm, source: Source, yard: DataRef, there: int) -> Count:
        in_yard = source.model_copy(update={"data": yard})
        asked = max(1, round(source.multiple * unit(self._samples[yard], in_yard)))
        field = self._listed[source.data].field
        if not there:
            raise NoImages(f"None of it meets what '{arm.name}' selects", field=field)
        cohort = self._listed[source.data].cohort
        if asked <= there or (cohort is None and source.data not in self._synthetic):
            return Count(asked)
        return self._of_short_cohort(arm, source, yard, asked, there, cohort)

    def _of_short_cohort(
        self,
        arm: Arm,
        source: Source,
        yard: DataRef,
        asked: int,
        there: int,
        cohort: GenerationView | None,
    ) -> Count:
        """Synthetic images are never repeated. That a cohort lacks a few because they were withheld
        is no reason to refuse: the arm is trained on what there is, and says so.
        """
        listed, short = self._listed[source.data], asked - there
        if short <= min(listed.withheld, MOST_WITHHELD * asked):
            return Count(there, short)
        if cohort is None:
            largest = source.multiple * there / asked
            raise CohortTooSmall(
                f"'{arm.name}' asks for {asked} images ({source.multiple:g} times what is real) and"
                f" the synthetic dataset holds {there}: the largest multiple is {largest:.3g}",
                field=listed.field,
                accepted=there,
            )
        needed = math.ceil(asked / there * cohort.replicas)
        of_them = f" ({listed.withheld} are withheld)" if listed.withheld else ""
        holds = "holds" if listed.ready else "will hold"
        raise CohortTooSmall(
            f"'{arm.name}' asks for {asked} images ({source.multiple:g} times what is real), the "
            f"cohort {holds} {there}{of_them}; replicas missing: {needed - cohort.replicas}",
            field=listed.field,
            accepted=there,
            generate=order_of(cohort, yard, needed),
        )


def order_of(cohort: GenerationView, yard: DataRef, replicas: int) -> JsonValue:
    """The body for `POST /generate` that makes a cohort like this of so many replicas; None where
    no one order does.
    """
    mirrored = cohort.mirror or (yard if isinstance(yard, DatasetRef) else None)
    if mirrored is None or replicas > MOST_REPLICAS:
        return None
    order = GenerateRequest(
        generator=cohort.generator,
        mirror=mirrored,
        replicas=replicas,
        seed=cohort.seed,
        sampler=cohort.sampler,
    )
    return order.model_dump(mode="json", exclude_defaults=True)
