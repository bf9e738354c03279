"""Which rows of a manifest a filter means."""

from collections.abc import Iterator, Sequence

import polars as pl

from api_schemas.content_order import content_names, lot
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
    """One row of each patient, drawn by `seed` and the pixels, in the frame's order."""
    lots = pl.Series("lot", lots_of(frame, seed))
    first = pl.col("lot") == pl.col("lot").min().over("patient_id")
    return frame.with_columns(lots).filter(first).drop("lot")


def lots_of(frame: pl.DataFrame, seed: int) -> list[bytes]:
    """What a drawing of the rows sorts by: the same for the same pixels wherever it is made."""
    return [lot(seed, name) for name in content_names(frame["pixel_sha256"].to_list())]
