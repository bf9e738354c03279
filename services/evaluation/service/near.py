"""The search for near-identical pictures of two sets: reads every image, tells how far it is."""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from api_schemas.overlaps import NearCopies, SharedPair
from services.copies.calibration import above
from services.copies.pictures import Pictures, picture
from services.copies.search import Nearest, Queries, search
from services.evaluation.service.stock import Stock, pixels
from services.kit.jobs import Lease

THRESHOLD = 0.965
"""Two sets have no calibration of their own; the likest of other patients' radiographs lie below
.958 (99th percentile, measured on three sets), and `chance` tells how it is in these.
"""
CHANCE_OF = 1000
UNIT = "images"


class NearSearch:
    """One search, for the holder of a lease."""

    def __init__(self, stock: Stock, lease: Lease) -> None:
        self._stock = stock
        self._lease = lease
        self._read, self._total = 0, 0

    def search(
        self, first: pl.DataFrame, second: pl.DataFrame
    ) -> tuple[NearCopies, list[SharedPair]]:
        """Pictures of `first` with a near-identical one in `second`, the likest first. What is
        the same pixel for pixel does not count.
        """
        self._total = first.height + second.height
        own = np.concatenate(list(self._pictures(first)))
        others = np.concatenate(list(self._pictures(second)))
        found = self._nearest(first, own, second, others, "pixel_sha256")
        pairs = sorted(_pairs(first, second, found), key=lambda pair: -pair.likeness)
        some = first.head(CHANCE_OF)
        other_people = self._nearest(
            some, own[: some.height], first, own, "patient_id", "pixel_sha256"
        )
        chance = float(above(other_people.likeness, THRESHOLD).mean())
        told = NearCopies(
            found=len(pairs), threshold=THRESHOLD, chance=chance, chance_of=some.height
        )
        return told, pairs

    def _nearest(
        self,
        asked: pl.DataFrame,
        pictures: Pictures,
        among: pl.DataFrame,
        others: Pictures,
        *apart: str,
    ) -> Nearest:
        """The likest of `others` that has nothing in common with what is asked in `apart`."""

        def excluded(first: int, last: int) -> NDArray[np.bool_]:
            part = among.slice(first, last - first)
            return np.logical_or.reduce([_equal(asked[name], part[name]) for name in apart])

        def between(_: int) -> None:
            self._lease.stop_now()

        return search(Queries.of([pictures]), others, excluded, between)

    def _pictures(self, frame: pl.DataFrame) -> Iterator[Pictures]:
        """What is compared of some images after the other."""
        for pngs in self._stock.images(frame):
            self._lease.stop_now()
            yield np.stack([picture(pixels(png)) for png in pngs])
            self._read += len(pngs)
            self._lease.progress(self._read, self._total, UNIT)


def _pairs(first: pl.DataFrame, second: pl.DataFrame, found: Nearest) -> Iterator[SharedPair]:
    for i in np.flatnonzero(above(found.likeness, THRESHOLD)):
        best = int(found.place[i])
        yield SharedPair(
            first=first["sample_id"][int(i)],
            second=second["sample_id"][best],
            kind="near",
            likeness=float(found.likeness[i]),
            same_patient=first["patient_id"][int(i)] == second["patient_id"][best],
        )


def _equal(a: pl.Series, b: pl.Series) -> NDArray[np.bool_]:
    """(len(a), len(b)): where two columns hold the same."""
    codes = pl.concat([a, b]).rank("dense").to_numpy()
    return codes[: len(a), None] == codes[None, len(a) :]
