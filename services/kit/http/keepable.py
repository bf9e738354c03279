"""What a request may hold and no database takes: refused before any route sees it."""

import math
from typing import Any

from fastapi import Request

from services.kit.errors import Unprocessable

NUL = "\0"


class CannotBeKept(Unprocessable):
    slug = "cannot-be-kept"
    title = "A text or number of the request is none that can be kept"


async def keepable(request: Request) -> None:
    """Raise `CannotBeKept` (422) for what a query or a JSON body may hold and no database takes,
    naming its place. A body that the route reads for itself is not looked at.
    """
    for name, value in request.query_params.multi_items():
        _check_kept(value, (name,))
    if getattr(request.scope.get("route"), "body_field", None) is not None:
        try:
            _check_kept(await request.json(), ())
        except RecursionError as error:
            raise CannotBeKept("It is nested too deeply", field="body") from error


def _check_kept(value: Any, place: tuple[Any, ...]) -> None:
    if isinstance(value, dict):
        for name, each in value.items():
            _check_kept(name, (*place, "name"))
            _check_kept(each, (*place, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            _check_kept(each, (*place, index))
    elif isinstance(value, str) and (NUL in value or not _is_text(value)):
        raise CannotBeKept("It holds a NUL character or half a pair", field=_spell(place))
    elif isinstance(value, float) and not math.isfinite(value):
        raise CannotBeKept("It is not finite", field=_spell(place))


def _is_text(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= each <= "\udfff" for each in value)


def _spell(place: tuple[Any, ...]) -> str:
    return ".".join(map(str, place)) or "body"
