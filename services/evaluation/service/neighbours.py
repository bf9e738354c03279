"""The images of a cohort that are likest to a training image, beside these, as they are now."""

from collections.abc import Sequence

import polars as pl

from api_schemas.base import DataRef, DatasetRef, DataSplit, GenerationRef
from api_schemas.generation import GenerationView
from api_schemas.screening import UNSCREENED, Neighbour
from services.evaluation.ports import Generations
from services.evaluation.reports.quality import Likest, NearPair, Pixels
from services.evaluation.service.problems import ImageDamaged
from services.evaluation.service.stock import Stock, pixels
from services.kit.auth import Caller
from services.kit.errors import ProblemError, Unavailable

SHOWN = 12


class Neighbours:
    def __init__(self, stock: Stock, generations: Generations) -> None:
        self._stock = stock
        self._generations = generations

    def of(self, caller: Caller, cohort: GenerationView) -> Likest:
        """The likest `SHOWN` pairs, or a sentence on why there are none."""
        if cohort.screening.state == UNSCREENED:
            why = cohort.screening.reason
            return Likest(
                missing="This cohort is unscreened: nobody has looked for its nearest training"
                f" images{f' ({why})' if why else ''}."
            )
        found = self._generations.likest(caller, cohort.id, SHOWN)
        dataset = self._generations.generator(caller, cohort.generator).dataset
        if not found or dataset is None:
            return Likest(missing="The nearest training images of this cohort are unknown.")
        ours = self._pictures(
            caller, GenerationRef(generation=cohort.id), [each.sample_id for each in found]
        )
        theirs = self._pictures(caller, DatasetRef(dataset=dataset), [n.nearest for n in found])
        pairs = [pair for each in found if (pair := _pair(each, ours, theirs)) is not None]
        calibration = cohort.screening.calibration
        return Likest(
            pairs=pairs,
            withheld=cohort.screening.flagged,
            threshold=None if calibration is None else calibration.threshold,
        )

    def _pictures(self, caller: Caller, ref: DataRef, names: Sequence[str]) -> dict[str, Pixels]:
        """Of samples that are still there, by name."""
        try:
            rows = self._stock.rows(caller, DataSplit(data=ref), "data")
        except Unavailable:
            raise
        except ProblemError:
            return {}
        wanted = rows.filter(pl.col("sample_id").is_in(names), pl.col("image_key").is_not_null())
        try:
            pngs = [png for part in self._stock.images(wanted) for png in part]
        except ImageDamaged:
            return {}
        return dict(zip(wanted["sample_id"], map(pixels, pngs), strict=True))


def _pair(each: Neighbour, ours: dict[str, Pixels], theirs: dict[str, Pixels]) -> NearPair | None:
    """None where the synthetic image itself is gone."""
    if each.sample_id not in ours:
        return None
    return NearPair(each.index, each.likeness, ours[each.sample_id], theirs.get(each.nearest))
