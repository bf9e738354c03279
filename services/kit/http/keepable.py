"""What a request may hold and no database takes: refused before any route sees it."""

import math
import re
from typing import Any

from anyio import to_thread
from fastapi import Request

from services.kit.errors import Unprocessable

NUL = "\0"
FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
DEPTH_LIMIT = 32
"""Lists and objects inside each other: several times what any request needs."""
LARGE_BYTES = 64 << 10
"""A larger body is looked at apart from the event loop, which others wait for."""


class CannotBeKept(Unprocessable):
    slug = "cannot-be-kept"
    title = "A text or number of the request is none that can be kept"


def is_field(name: object) -> bool:
    """Whether it is written as fields are. What is not may be anybody's name, and is not
    repeated.
    """
    return isinstance(name, int) or FIELD_NAME.fullmatch(str(name)) is not None


async def keepable(request: Request) -> None:
    """Raise `CannotBeKept` (422) for what a query or a JSON body may hold and no database takes,
    naming its place, and for what is nested too deeply. A body that the route reads for itself is
    not looked at.
    """
    for name, value in request.query_params.multi_items():
        _check_kept(value, (name,))
    if getattr(request.scope.get("route"), "body_field", None) is None or not _is_json(request):
        return
    size = len(await request.body())
    if size:
        value = await request.json()  # parsed already, and once
        if size < LARGE_BYTES:
            _check_kept(value, ())
        else:
            await to_thread.run_sync(_check_kept, value, ())


def _is_json(request: Request) -> bool:
    """Whether the framework parses the body."""
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    kind, _, subtype = media_type.partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


def _check_kept(value: Any, place: tuple[Any, ...]) -> None:
    if len(place) > DEPTH_LIMIT:
        raise CannotBeKept(
            "It is nested too deeply", field=_spell(place[:3]), accepted=f"{DEPTH_LIMIT} levels"
        )
    if isinstance(value, dict):
        for name, each in value.items():
            _check_kept(name, (*place, "name"))
            _check_kept(each, (*place, name if is_field(name) else "name"))
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
