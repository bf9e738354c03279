"""The search for near-identical pictures of two sets: reads every image, tells how far it is."""

from collections.abc import Callable, Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from api_schemas.overlaps import NearCopies, SharedPair
from services.evaluation.service.stock import AT_ONCE, Stock, pixels
from services.evaluation.statistics.copies import (
    THRESHOLD,
    UNMOVED,
    Descriptors,
    likeness,
    middle,
    windows,
)
from services.kit.jobs import Lease

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
        index = np.concatenate(list(self._described(second, middle)))
        own: list[Descriptors] = []
        kept: list[Descriptors] = []  # queries to try on the first set itself
        pairs: list[SharedPair] = []
        for queries in self._described(first, windows):
            start = sum(map(len, own))
            part = first.slice(start, len(queries))
            like = likeness(queries, index)
            like[_equal(part["pixel_sha256"], second["pixel_sha256"])] = 0.0
            pairs += _pairs(part, second, like)
            own.append(queries[:, UNMOVED])
            if start < CHANCE_OF:
                kept.append(queries[: CHANCE_OF - start])
        chance, of = _chance(first, np.concatenate(own), np.concatenate(kept))
        pairs.sort(key=lambda pair: -pair.likeness)
        told = NearCopies(found=len(pairs), threshold=THRESHOLD, chance=chance, chance_of=of)
        return told, pairs

    def _described(
        self, frame: pl.DataFrame, how: Callable[[NDArray[np.uint8]], Descriptors]
    ) -> Iterator[Descriptors]:
        """Descriptors of some images after the other."""
        for pngs in self._stock.images(frame):
            self._lease.stop_now()
            yield np.stack([how(pixels(png)) for png in pngs])
            self._read += len(pngs)
            self._lease.progress(self._read, self._total, UNIT)


def _pairs(part: pl.DataFrame, second: pl.DataFrame, like: Descriptors) -> Iterator[SharedPair]:
    for i in np.flatnonzero(like.max(axis=1) > THRESHOLD):
        best = int(like[i].argmax())
        yield SharedPair(
            first=part["sample_id"][int(i)],
            second=second["sample_id"][best],
            kind="near",
            likeness=min(1.0, float(like[i, best])),
            same_patient=part["patient_id"][int(i)] == second["patient_id"][best],
        )


def _chance(first: pl.DataFrame, index: Descriptors, queries: Descriptors) -> tuple[float, int]:
    """How often a picture is taken for one of another patient of its own set."""
    found = 0
    for start in range(0, len(queries), AT_ONCE):
        part = first.slice(start, min(AT_ONCE, len(queries) - start))
        like = likeness(queries[start : start + AT_ONCE], index)
        like[_equal(part["patient_id"], first["patient_id"])] = 0.0
        like[_equal(part["pixel_sha256"], first["pixel_sha256"])] = 0.0
        found += int((like.max(axis=1) > THRESHOLD).sum())
    return found / len(queries), len(queries)


def _equal(a: pl.Series, b: pl.Series) -> NDArray[np.bool_]:
    """(len(a), len(b)): where two columns hold the same."""
    codes = pl.concat([a, b]).rank("dense").to_numpy()
    return codes[: len(a), None] == codes[None, len(a) :]
