"""Measuring a cohort: reads images of it and of its reference, as one slice."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from PIL import Image

from api_schemas.base import DataSplit
from api_schemas.datasets import DatasetKind
from api_schemas.qualities import Distances, Diversity, Quality, QualityRequest, ReferenceSet
from services.evaluation import models
from services.evaluation.service import agreement
from services.evaluation.service.features import GivenTables
from services.evaluation.service.keeping import QUALITY
from services.evaluation.service.problems import ReferenceNotReal, TooFewToMeasure
from services.evaluation.service.stock import Item, Stock, pixels
from services.evaluation.statistics.cases import Floats, Ints, numbered
from services.evaluation.statistics.features import OFFERED, Features, Pixels
from services.evaluation.statistics.quality import (
    Drawn,
    Pair,
    Set,
    distances,
    diversity,
    draw_pairs,
)
from services.evaluation.statistics.ssim import TooSmall, ms_ssim, scales
from services.kit.jobs import Lease, step_of

UNIT = "images"
MOST = (5_000, 10_000)
"""Images of the cohort, and of the reference for its two halves."""


FEWEST_IMAGES, FEWEST_PATIENTS = 20, 40
"""Of the cohort, and of the reference, which is halved."""


def check_cohort(images: int) -> None:
    """Raises `TooFewToMeasure` (422)."""
    if images < FEWEST_IMAGES:
        raise TooFewToMeasure(f"It has {images} images", field="cohort", accepted=FEWEST_IMAGES)


def check_reference(item: Item, rows: pl.DataFrame) -> None:
    """Raises `ReferenceNotReal` and `TooFewToMeasure` (422)."""
    if item.kind in {DatasetKind.SYNTHETIC, DatasetKind.MIXED}:
        raise ReferenceNotReal(
            f"Images of '{item.name}' were made by a generator, by their own word",
            field="reference",
            accepted="a dataset of real images",
        )
    patients = rows["patient_id"].n_unique()
    if patients < FEWEST_PATIENTS:
        raise TooFewToMeasure(
            f"It has {patients} patients", field="reference", accepted=FEWEST_PATIENTS
        )


class MeasureQuality:
    """Handler of a quality's slice. `spaces` are what distances are measured in, beside those
    that the request brings.
    """

    def __init__(
        self, stock: Stock, given: GivenTables, spaces: Sequence[Features] = OFFERED
    ) -> None:
        self._stock = stock
        self._given = given
        self._spaces = spaces

    def __call__(self, lease: Lease) -> None:
        step_of(lease, QUALITY)
        request = QualityRequest.model_validate(lease.inputs)
        measured = _Measuring(self._stock, self._given, self._spaces, lease, request).quality()
        with lease.finishing() as tx:
            if request.agreement is not None:
                found = agreement.agreement(tx.session, lease.caller, request.agreement)
                measured = measured.model_copy(update={"agreement": found})
            row = tx.session.get_one(models.Quality, lease.resource)
            row.result = measured.model_dump(mode="json")


class _Measuring:
    """One measurement, for the holder of a lease."""

    def __init__(
        self,
        stock: Stock,
        given: GivenTables,
        spaces: Sequence[Features],
        lease: Lease,
        request: QualityRequest,
    ) -> None:
        self._stock = stock
        self._given = given
        self._spaces = spaces
        self._lease = lease
        self._request = request
        self._read, self._total = 0, 0
        self._shape: tuple[int, ...] = ()

    def quality(self) -> Quality:
        request = self._request
        assert request.reference is not None  # noqa: S101 - named when it was ordered
        cohort, all_ours = self._set(DataSplit(data=request.cohort), "cohort")
        reference, all_theirs = self._set(split_of(request.reference), "reference")
        check_cohort(all_ours.height)
        check_reference(reference, all_theirs)
        ours = _some(all_ours, "sample_id", MOST[0], request.seed)
        theirs = _some(all_theirs, "patient_id", MOST[1], request.seed)
        drawn = draw_pairs(ours, theirs, request.seed)
        self._shape = pixels(next(self._stock.images(ours.head(1)))[0]).shape
        self._total = ours.height + theirs.height + 4 * len(drawn.condition)
        return Quality(
            cohort=cohort.compared(DataSplit(data=request.cohort), all_ours),
            reference=reference.compared(split_of(request.reference), all_theirs),
            images_measured=(ours.height, theirs.height),
            distances=[
                *self._distances(ours, theirs, request.seed),
                *self._given_distances(ours, theirs, request.seed),
            ],
            diversity=self._diversity(ours, theirs, drawn),
        )

    def _set(self, wanted: DataSplit, field: str) -> tuple[Item, pl.DataFrame]:
        item = self._stock.look(self._lease.caller, wanted.data, field)
        return item, self._stock.rows_with_images(self._lease.caller, wanted, field)

    def _distances(self, ours: pl.DataFrame, theirs: pl.DataFrame, seed: int) -> list[Distances]:
        cohort, reference = self._features(ours), self._features(theirs)
        of_ours, of_theirs = _patients(ours), _patients(theirs)
        found: list[Distances] = []
        for space, mine, real in zip(self._spaces, cohort, reference, strict=True):
            self._lease.stop_now()
            found.append(distances(space, Set(mine, of_ours), Set(real, of_theirs), seed))
        return found

    def _given_distances(
        self, ours: pl.DataFrame, theirs: pl.DataFrame, seed: int
    ) -> list[Distances]:
        found: list[Distances] = []
        for place, pair in enumerate(self._request.features):
            self._lease.stop_now()
            space, (mine, real) = self._given.read(
                self._lease.caller, pair, f"features.{place}", (ours, theirs)
            )
            told = distances(space, Set(mine, _patients(ours)), Set(real, _patients(theirs)), seed)
            named = told.features.model_copy(update={"given": pair})
            found.append(told.model_copy(update={"features": named}))
        return found

    def _features(self, rows: pl.DataFrame) -> list[Floats]:
        """Of every image in every space; images are compared in the size of the cohort's."""
        parts: list[list[Floats]] = [[] for _ in self._spaces]
        for pngs in self._stock.images(rows):
            images = [_resized(pixels(png), self._shape) for png in pngs]
            for space, part in zip(self._spaces, parts, strict=True):
                part.append(space(images))
            self._tell(len(pngs))
        return [np.concatenate(part) for part in parts]

    def _diversity(
        self, ours: pl.DataFrame, theirs: pl.DataFrame, drawn: Drawn
    ) -> Diversity | None:
        if not len(drawn.condition):
            return None
        try:
            fit = scales(*self._shape)
        except TooSmall:
            return None
        cohort = self._alike(ours, drawn.cohort)
        reference = self._alike(theirs, drawn.reference)
        return diversity(drawn, cohort, reference, fit, min(self._shape))

    def _alike(self, rows: pl.DataFrame, pairs: Sequence[Pair]) -> Floats:
        """MS-SSIM of each pair of rows."""
        found: list[float] = []
        flat = rows[[row for pair in pairs for row in pair]]
        for pngs in self._stock.images(flat):  # an even number at once
            images = [_resized(pixels(png), self._shape) for png in pngs]
            found += [ms_ssim(*two) for two in zip(images[::2], images[1::2], strict=True)]
            self._tell(len(pngs))
        return np.array(found)

    def _tell(self, read: int) -> None:
        self._lease.stop_now()
        self._read += read
        self._lease.progress(self._read, self._total, UNIT)


def split_of(reference: ReferenceSet) -> DataSplit:
    return DataSplit(data=reference.data, split=reference.split)


def _some(rows: pl.DataFrame, unit: str, most: int, seed: int) -> pl.DataFrame:
    """At most so many rows, drawn by whole patients or samples; in the manifest's order."""
    counts = rows.group_by(unit, maintain_order=True).len()
    order = np.random.default_rng(seed).permutation(counts.height)
    drawn = counts[order]
    kept = drawn.filter(pl.col("len").cum_sum() <= most)
    return rows.join(kept, on=unit, how="semi", maintain_order="left")


def _patients(rows: pl.DataFrame) -> Ints:
    return numbered(rows["patient_id"].to_numpy())[0]


def _resized(px: Pixels, shape: tuple[int, ...]) -> Pixels:
    if px.shape == shape:
        return px
    smaller = min(px.shape) >= min(shape)
    how = Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(px).resize((shape[1], shape[0]), how))
