"""How two sets of images differ, on the wire."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from api_schemas.base import DataSplit, Digest, EvaluationSplit, Wire
from api_schemas.datasets import DatasetKind

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
DataWord = Annotated[str, StringConstraints(pattern=rf"^(dataset|generation)/{_UUID}$")]
"""A reference to data as one word: `dataset/{id}` or `generation/{id}`."""


class ShiftQuery(Wire):
    """Which two sets are compared. `first` and `second` are `dataset/{id}` or `generation/{id}`."""

    first: DataWord
    first_split: EvaluationSplit = "all"
    second: DataWord
    second_split: EvaluationSplit = "all"
    format: Literal["json", "svg"] = "json"


class ComparedSet(Wire):
    """One side of a comparison, in the version that was compared. `kind` is what its images show,
    null in results of before that was noted; `phantom`: drawn phantoms are behind them.
    """

    set: DataSplit
    name: str
    kind: DatasetKind | None = None
    phantom: bool = False
    manifest: Digest
    images: int
    patients: int


class Measured(Wire):
    """A share or mean over `images` images of which it is known; bounds are at 95 %.

    A bound is null where patients are too few to say.
    """

    value: float
    low: float | None
    high: float | None
    images: int


class ShiftRow(Wire):
    """One number of both sets, and the second minus the first, by 95 % intervals.

    `attribute` `finding`: the share of images with a finding among those in which it is present
    or absent (uncertain and blank do not count). `sex`, `race`, `ethnicity`, `view`, `age` (by
    decade): the share of a value among images that state the attribute. `age` `mean`: years.
    `not stated`: the share of images without the attribute or label. All intervals cluster by
    patient.
    """

    attribute: Literal["finding", "sex", "age", "race", "ethnicity", "view", "not stated"]
    value: str
    first: Measured | None
    second: Measured | None
    difference: float | None
    low: float | None
    high: float | None


class FeatureShift(Wire):
    """A trivial feature of the images: its mean in both sets, and the AUROC with which it alone
    tells them apart, below .5 where it is smaller in the second.
    """

    feature: str
    first: float
    second: float
    auroc: float


class Apart(Wire):
    """How well trivial features of the images (border, black margins, exposure, sharpness, size)
    tell the two sets apart, without looking at a lung: .5 not at all, 1 always.

    `auroc` with its 95 % interval is that of a logistic regression which scored each patient after
    it had been fitted to other patients; `images` were read of either set, at most 10,000.
    `features` begin with the one that tells most.
    """

    images: tuple[int, int]
    auroc: float
    low: float | None
    high: float | None
    features: list[FeatureShift]


class Shift(Wire):
    """How the second set differs from the first. A null side: nothing known there.

    `apart` is of the newest overlap (`POST /overlaps`) of these two sets, in this order and these
    versions, that was ordered with `trivial`; null where there is none.
    """

    first: ComparedSet
    second: ComparedSet
    shared_patients: int = Field(description="patients of both sets; the intervals know of them")
    apart: Apart | None = None
    rows: list[ShiftRow]
