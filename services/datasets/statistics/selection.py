"""Which rows of a manifest a filter means."""

from collections.abc import Iterator, Sequence

import polars as pl

from api_schemas.content_order import content_names, lot
from api_schemas.findings import ABSENT, PRESENT, UNCERTAIN, Finding
from api_schemas.selection import Filter

UNKNOWN = "unknown"


def meets(where: Filter) -> pl.Expr:
    """True where a row meets `where`, never null."""
    return pl.all_horizontal(pl.lit(value=True), *(each for _, each in conditions(where)))


def conditions(where: Filter) -> Iterator[tuple[str, pl.Expr]]:
    """(entry of the filter, what it asks of a row), for every entry that is given."""
    for name in ("split", "site", "sex", "race", "ethnicity", "view"):
        wanted: list[str] = [str(value) for value in getattr(where, name)]
        if wanted:
            yield name, pl.col(name).fill_null(UNKNOWN).is_in(wanted)
    if where.fold:
        yield "fold", pl.col("fold").is_in(where.fold).fill_null(value=False)
    if where.age_from is not None:
        yield "age_from", (pl.col("age") >= where.age_from).fill_null(value=False)
    if where.age_to is not None:
        yield "age_to", (pl.col("age") <= where.age_to).fill_null(value=False)
    yield from _labels("present", where.present, PRESENT)
    yield from _labels("absent", where.absent, ABSENT)
    yield from _labels("uncertain", where.uncertain, UNCERTAIN)
    for finding in where.blank:
        yield "blank", pl.col(str(finding)).is_null()


def _labels(name: str, findings: Sequence[Finding], value: int) -> Iterator[tuple[str, pl.Expr]]:
    for finding in findings:
        yield name, (pl.col(str(finding)) == value).fill_null(value=False)


def unmet(frame: pl.LazyFrame, where: Filter) -> str | None:
    """The first entry of a filter that no row meets, whatever the other entries ask."""
    asked = list(conditions(where))
    if not asked:
        return None
    met = frame.select(each.any().alias(str(n)) for n, (_, each) in enumerate(asked)).collect()
    return next((name for n, (name, _) in enumerate(asked) if not met[str(n)].item()), None)


def absent(frame: pl.LazyFrame, where: Filter) -> tuple[str, object, list[object]] | None:
    """The first site or fold that is named and that no row has: the entry, the value, and the
    values that there are.
    """
    for name in ("site", "fold"):
        wanted: list[object] = list(getattr(where, name))
        if wanted:
            there = frame.select(pl.col(name).drop_nulls().unique().sort()).collect()
            values: list[object] = there[name].to_list()
            missing = next((value for value in wanted if value not in values), None)
            if missing is not None:
                return name, missing, values
    return None


def one_a_patient(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    """One row of each patient, drawn by `seed` and the pixels, in the frame's order."""
    lots = pl.Series("lot", lots_of(frame, seed))
    first = pl.col("lot") == pl.col("lot").min().over("patient_id")
    return frame.with_columns(lots).filter(first).drop("lot")


def lots_of(frame: pl.DataFrame, seed: int) -> list[bytes]:
    """What a drawing of the rows sorts by: the same for the same pixels wherever it is made."""
    return [lot(seed, name) for name in content_names(frame["pixel_sha256"].to_list())]
