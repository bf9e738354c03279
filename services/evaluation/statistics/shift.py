"""How two manifests differ: labels, demographics, and what is not stated."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from api_schemas.findings import ABSENT, FINDINGS, PRESENT, Ethnicity, Race, Sex, View
from api_schemas.shifts import Measured, ShiftRow
from services.evaluation.statistics.cases import Bools, numbered
from services.evaluation.statistics.shares import Mean, Sample, difference, mean_of, share_of

COLUMNS = (
    *("patient_id", "sex", "age", "race", "ethnicity", "view"),
    *(str(f) for f in FINDINGS),
)
DECADES = range(0, 121, 10)


def shift(first: pl.DataFrame, second: pl.DataFrame) -> list[ShiftRow]:
    """A row for every finding and value that is known on either side; both have `COLUMNS`."""
    sides = _Sides(first, second)
    rows = [*_findings(sides), *_demographics(sides), *_missing(sides)]
    return [row for row in rows if row.first is not None or row.second is not None]


def shared_patients(first: pl.DataFrame, second: pl.DataFrame) -> int:
    mine = first.select(pl.col("patient_id").unique())
    return mine.join(second, on="patient_id", how="semi").height


class _Sides:
    """Both manifests, their patients numbered together."""

    def __init__(self, first: pl.DataFrame, second: pl.DataFrame) -> None:
        self.frames = (first, second)
        patients = pl.concat([first["patient_id"], second["patient_id"]])
        codes, G = numbered(patients.to_numpy())
        of = np.split(codes, [first.height])
        self.samples = (Sample(of[0], G), Sample(of[1], G))

    def share(self, attribute: Any, value: str, y: pl.Expr, known: pl.Expr) -> ShiftRow:
        means = [
            share_of(sample, _bools(frame, y), _bools(frame, known))
            for frame, sample in zip(self.frames, self.samples, strict=True)
        ]
        return _row(attribute, value, means)

    def mean(self, attribute: Any, column: str) -> ShiftRow:
        means = [
            mean_of(
                sample,
                frame[column].fill_null(0).to_numpy().astype(np.float64),
                frame[column].is_not_null().to_numpy(),
            )
            for frame, sample in zip(self.frames, self.samples, strict=True)
        ]
        return _row(attribute, "mean", means)

    def known(self, column: str) -> bool:
        return any(frame[column].null_count() < frame.height for frame in self.frames)

    def has(self, column: str, value: str) -> bool:
        return any((frame[column] == value).any() for frame in self.frames)


def _findings(sides: _Sides) -> Iterator[ShiftRow]:
    for finding in map(str, FINDINGS):
        stated = pl.col(finding).is_in([PRESENT, ABSENT])
        yield sides.share("finding", finding, pl.col(finding) == PRESENT, stated)


def _demographics(sides: _Sides) -> Iterator[ShiftRow]:
    yield from _categories(sides, "sex", list(Sex))
    if sides.known("age"):
        yield sides.mean("age", "age")
    for decade in DECADES:
        inside = pl.col("age") // 10 * 10 == decade
        if any(bool(frame.select(inside.any()).item()) for frame in sides.frames):
            name = f"{decade}-{decade + 9}"
            yield sides.share("age", name, inside, pl.col("age").is_not_null())
    yield from _categories(sides, "race", list(Race))
    yield from _categories(sides, "ethnicity", list(Ethnicity))
    yield from _categories(sides, "view", list(View))


def _categories(sides: _Sides, column: str, values: Sequence[str]) -> Iterator[ShiftRow]:
    for value in map(str, values):
        if sides.has(column, value):
            stated = pl.col(column).is_not_null()
            yield sides.share(column, value, pl.col(column) == value, stated)


def _missing(sides: _Sides) -> Iterator[ShiftRow]:
    for column in COLUMNS[1:]:
        if any(frame[column].null_count() for frame in sides.frames):
            everything = pl.col("patient_id").is_not_null()
            yield sides.share("not stated", column, pl.col(column).is_null(), everything)


def _bools(frame: pl.DataFrame, what: pl.Expr) -> Bools:
    return frame.select(what.fill_null(value=False)).to_series().to_numpy()


def _row(attribute: Any, value: str, means: Sequence[Mean | None]) -> ShiftRow:
    first, second = means
    d, (low, high) = difference(first, second)
    return ShiftRow(
        attribute=attribute,
        value=value,
        first=_measured(first),
        second=_measured(second),
        difference=d,
        low=low,
        high=high,
    )


def _measured(mean: Mean | None) -> Measured | None:
    if mean is None:
        return None
    low, high = mean.limits
    return Measured(value=mean.value, low=low, high=high, images=mean.images)
