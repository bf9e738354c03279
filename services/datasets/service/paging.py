"""Pages of a manifest's rows. A cursor is a row's place in one version of a manifest."""

from uuid import UUID

import polars as pl

from api_schemas.base import Page
from api_schemas.datasets import Sample, SampleQuery
from services.datasets.statistics.selection import meets
from services.datasets.views import sample_view
from services.kit.http import BadCursor, decode_cursor, encode_cursor

ROW = "row"
ROW_BITS = 40


def samples_page(table: pl.LazyFrame, version: UUID, query: SampleQuery) -> Page[Sample]:
    """The samples that meet the query's filter, in the manifest's order.

    Raises `BadCursor` (422) for a cursor of another version: after a withdrawal begin again.
    """
    rows = (
        table.with_row_index(ROW)
        .slice(_first_row(query.cursor, version))
        .filter(meets(query))
        .head(query.limit + 1)
        .collect()
        .to_dicts()
    )
    shown = rows[: query.limit]
    more = len(rows) > query.limit
    following = cursor_of(version, shown[-1][ROW] + 1) if more else None
    return Page(items=[sample_view(row) for row in shown], next=following)


def cursor_of(version: UUID, row: int) -> str:
    """The cursor that begins with a row."""
    return encode_cursor(version.int << ROW_BITS | row)


def _first_row(cursor: str | None, version: UUID) -> int:
    if cursor is None:
        return 0
    place, row = divmod(int(decode_cursor(cursor, int)), 1 << ROW_BITS)
    if place != version.int:
        raise BadCursor("The dataset has another manifest by now: begin again", field="cursor")
    return row
