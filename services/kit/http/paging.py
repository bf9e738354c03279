"""Lists by pages: a cursor is a place in the order, so what is added meanwhile moves nothing."""

import base64
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar
from uuid import UUID

from fastapi import Query
from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

from api_schemas.base import Page
from services.kit.errors import Unprocessable

View = TypeVar("View")
Row = TypeVar("Row")

CursorQuery = Annotated[str | None, Query(max_length=200, description="`next` of the page before")]
LimitQuery = Annotated[int, Query(ge=1, le=1000)]


class BadCursor(Unprocessable):
    slug = "bad-cursor"
    title = "This cursor is not one of ours"


def encode_cursor(value: UUID | int) -> str:
    return base64.urlsafe_b64encode(str(value).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kind: type[UUID] | type[int]) -> UUID | int:
    """The value a cursor stands for; raises `BadCursor` (422) for anything else."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return kind(base64.urlsafe_b64decode(padded).decode())
    except (ValueError, UnicodeDecodeError) as error:
        raise BadCursor("Use `next` of the page before", field="cursor") from error


def page(
    session: Session,
    query: Select[Row],
    column: InstrumentedAttribute[UUID] | InstrumentedAttribute[int],
    cursor: str | None,
    limit: int,
    views: Callable[[Sequence[Row]], list[View]],
    *,
    newest_first: bool = False,
) -> Page[View]:
    """One page by keyset on `column`, which must be unique within `query` and an attribute."""
    if cursor is not None:
        kind = column.type.python_type
        value = decode_cursor(cursor, kind)
        query = query.where(column < value if newest_first else column > value)
    order = column.desc() if newest_first else column.asc()
    rows: Sequence[Row] = session.scalars(query.order_by(order).limit(limit + 1)).all()
    shown = rows[:limit]
    following = encode_cursor(getattr(shown[-1], column.key)) if len(rows) > limit else None
    return Page(items=views(shown), next=following)
