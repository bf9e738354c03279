"""Query parameters that a route does not have: refused, for a filter that is not applied would give
an answer to another question.
"""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute


async def known_parameters(request: Request) -> None:
    """Raise `RequestValidationError` (422) naming every unknown parameter and those there are."""
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    known = sorted(set(_names(route.dependant)))
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        accepted = ", ".join(known) or "none"
        raise RequestValidationError(
            [
                {
                    "type": "unknown_parameter",
                    "loc": ("query", name),
                    "msg": "There is no such parameter here",
                    "ctx": {"expected": accepted},
                }
                for name in unknown
            ]
        )


def _names(dependant: Dependant) -> Iterator[str]:
    """Of the query parameters of a route and of what it depends on."""
    for field in get_flat_params(Dependant(query_params=dependant.query_params)):
        yield field.alias
    for other in dependant.dependencies:
        yield from _names(other)
