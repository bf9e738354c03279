"""How many images each arm lists of each of its sources, and whether they are there."""

import math
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from api_schemas.arms import Arm, Source
from api_schemas.base import DataRef, DatasetRef
from api_schemas.generation import GenerateRequest, GenerationView
from services.training.service.arms import yardstick
from services.training.service.catalogue import Listed
from services.training.service.checks import CohortTooSmall, NoImages
from services.training.service.pools import pool, unit
from services.training.service.samples import Samples

MOST_REPLICAS = 100
"""Of one generation."""


class Lists:
    """Counts by the samples of an experiment's data. Raises `NoImages` and `CohortTooSmall`."""

    def __init__(
        self, samples: Mapping[DataRef, Samples], listed: Mapping[DataRef, Listed]
    ) -> None:
        self._samples = samples
        self._listed = listed

    def by_arm(self, arms: Sequence[Arm], reference: str) -> dict[str, list[list[int]]]:
        """By arm, stage and source."""
        return {
            arm.name: [
                [self._count(arm, source, yardstick(arm, arms, reference)) for source in s.sources]
                for s in arm.stages
            ]
            for arm in arms
        }

    def _count(self, arm: Arm, source: Source, yard: DataRef) -> int:
        in_yard = source.model_copy(update={"data": yard})
        asked = max(1, round(source.multiple * unit(self._samples[yard], in_yard)))
        held = len(pool(self._samples[source.data], source))
        field = self._listed[source.data].field
        if not held:
            raise NoImages(f"None of it meets what '{arm.name}' selects", field=field)
        if self._listed[source.data].cohort is not None:
            self._check_cohort(arm, source, yard, asked, held)
        return asked

    def _check_cohort(self, arm: Arm, source: Source, yard: DataRef, asked: int, held: int) -> None:
        """What a cohort lacks because it was withheld is no reason to refuse: the images that
        come first are listed twice instead.
        """
        listed = self._listed[source.data]
        if listed.cohort is None or asked <= held + listed.withheld:
            return
        needed = math.ceil(asked / held * listed.cohort.replicas)
        raise CohortTooSmall(
            f"'{arm.name}' asks for {asked} images ({source.multiple:g} times what is real), the "
            f"cohort holds {held}; replicas missing: {needed - listed.cohort.replicas}",
            field=listed.field,
            accepted=held,
            generate=order_of(listed.cohort, yard, needed),
        )


def order_of(cohort: GenerationView, yard: DataRef, replicas: int) -> JsonValue:
    """The body for `POST /generate` that makes a cohort like this of so many replicas; None where
    no one order does.
    """
    mirrored = cohort.mirror or (yard.dataset if isinstance(yard, DatasetRef) else None)
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
