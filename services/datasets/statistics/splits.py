"""New splits of a manifest, always by patient."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from api_schemas.content_order import content_names, lot, patient_names
from api_schemas.findings import PRESENT
from api_schemas.manifest import LABEL_COLUMNS
from api_schemas.selection import FoldSplits, NewSplits, Splits, Stratum
from services.datasets.statistics.selection import UNKNOWN
from services.datasets.statistics.stratify import Counts, deal

USUAL: tuple[Stratum, ...] = ("findings", "sex", "race", "age")
"""What splits are alike in unless asked otherwise."""


def is_stated(frame: pl.DataFrame, stratum: Stratum) -> bool:
    """Whether any sample states the attribute, or any of its findings."""
    columns = LABEL_COLUMNS if stratum == "findings" else (stratum,)
    return any(frame[name].null_count() < frame.height for name in columns)


def split(frame: pl.DataFrame, how: Splits) -> pl.DataFrame:
    """`frame` with other values in `split` (and in `fold`, where folds are dealt)."""
    if isinstance(how, FoldSplits):
        return frame.with_columns(_by_fold(how).alias("split"))
    return _anew(frame, how)


def _by_fold(how: FoldSplits) -> pl.Expr:
    fold = pl.col("fold")
    named = pl.when(fold == how.validation).then(pl.lit("validation"))
    if how.test is not None:
        named = named.when(fold == how.test).then(pl.lit("test"))
    return named.when(fold.is_not_null()).then(pl.lit("train")).otherwise(pl.col("split"))


def _anew(frame: pl.DataFrame, how: NewSplits) -> pl.DataFrame:
    contents = content_names(frame["pixel_sha256"].to_list())
    names = patient_names(frame["patient_id"], contents)
    patients = sorted(names, key=lambda patient: lot(how.seed, names[patient]))
    counts = _attributes(frame, how.stratify or [s for s in USUAL if is_stated(frame, s)])
    by_patient = pl.DataFrame({"patient_id": patients}).join(
        counts, on="patient_id", how="left", maintain_order="left"
    )
    images = by_patient["images"].to_numpy().astype(np.int64)
    x: Counts = by_patient.drop("patient_id", "images").to_numpy().astype(np.float64)
    dealt = by_patient.select("patient_id").with_columns(
        *_named(deal(x, images, _shares(how)), how)
    )
    kept = frame.drop("split", "fold" if how.folds else "split")
    joined = kept.join(dealt, on="patient_id", how="left", maintain_order="left")
    return joined.select(frame.columns)


def _shares(how: NewSplits) -> list[float]:
    if how.folds is None:
        validation = how.validation_share
        return [1 - validation - how.test, validation, how.test]
    return [(1 - how.test) / how.folds] * how.folds + [how.test]


def _named(part: NDArray[np.intp], how: NewSplits) -> list[pl.Series]:
    """Column `split`, and `fold` where folds were dealt (null in the test set)."""
    if how.folds is None:
        return [pl.Series("split", np.array(["train", "validation", "test"])[part])]
    split = np.where(part == how.folds, "test", np.where(part == 0, "validation", "train"))
    fold = pl.Series("fold", part, dtype=pl.Int8)
    return [pl.Series("split", split), fold.set(fold == how.folds, None)]


def _attributes(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """By patient: images, and how many of them have each attribute."""
    shown = [frame.select("patient_id")]
    for name in names:
        if name == "findings":
            shown.append(frame.select((pl.col(LABEL_COLUMNS) == PRESENT).fill_null(value=False)))
        else:
            told = frame["age"] // 10 if name == "age" else frame[name]
            shown.append(told.cast(pl.String).fill_null(UNKNOWN).to_dummies())
    wide = pl.concat(shown, how="horizontal")
    counted = pl.exclude("patient_id").cast(pl.Int64).sum()
    return wide.group_by("patient_id").agg(pl.len().alias("images"), counted)
