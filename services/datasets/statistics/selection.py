"""Which rows of a manifest a filter means."""

import hashlib
from collections.abc import Iterator, Sequence

import polars as pl

from api_schemas.findings import ABSENT, PRESENT, UNCERTAIN, Finding
from api_schemas.selection import Filter

UNKNOWN = "unknown"


def meets(where: Filter) -> pl.Expr:
    """True where a row meets `where`, never null."""
    return pl.all_horizontal(pl.lit(value=True), *_conditions(where))


def _conditions(where: Filter) -> Iterator[pl.Expr]:
    for name in ("split", "site", "sex", "race", "ethnicity", "view"):
        wanted: list[str] = [str(value) for value in getattr(where, name)]
        if wanted:
            yield pl.col(name).fill_null(UNKNOWN).is_in(wanted)
    if where.fold:
        yield pl.col("fold").is_in(where.fold).fill_null(value=False)
    if where.age_from is not None:
        yield (pl.col("age") >= where.age_from).fill_null(value=False)
    if where.age_to is not None:
        yield (pl.col("age") <= where.age_to).fill_null(value=False)
    yield from _labels(where.present, PRESENT)
    yield from _labels(where.absent, ABSENT)
    yield from _labels(where.uncertain, UNCERTAIN)
    for finding in where.blank:
        yield pl.col(str(finding)).is_null()


def _labels(findings: Sequence[Finding], value: int) -> Iterator[pl.Expr]:
    for finding in findings:
        yield (pl.col(str(finding)) == value).fill_null(value=False)


def one_a_patient(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """One row of each patient, drawn by `seed` and the sample's name, in the frame's order."""
    lots = pl.Series("lot", [lot(seed, name) for name in frame["sample_id"]])
    first = pl.col("lot") == pl.col("lot").min().over("patient_id")
    return frame.with_columns(lots).filter(first).drop("lot")


def lot(seed: int, name: str) -> bytes:
    """What a drawing sorts by: the same for a name wherever and whenever it is drawn."""
    return hashlib.sha256(f"{seed}\x00{name}".encode()).digest()
