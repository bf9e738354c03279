"""Every error as a problem document (RFC 9457). Says what is wrong and where, and never repeats
what was sent: it may be a patient's.
"""

import re
from collections.abc import Sequence
from typing import Any

import urllib3
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from starlette.exceptions import HTTPException

from api_schemas.base import Problem
from services.kit.errors import ProblemError, Unavailable, Unprocessable
from services.kit.logging import get_logger
from services.kit.objects import DigestMismatch

log = get_logger(__name__)

PROBLEM_JSON = "application/problem+json"
CONSEQUENCE = "default_factory_not_called"
"""Pydantic's name for what could not be filled in because something else is wrong."""
HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "60"}}
"""What an error of a status says beside its problem."""
NAMED = re.compile(r"([a-z_][a-z_0-9.]*): (.+)", re.DOTALL)
"""What a model says of several of its fields at once begins with the one that should change."""

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": what,
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, what in {
        "401": "No valid key",
        "403": "The key may not do that",
        "404": "Not here, or not yours",
        "409": "Does not fit the present state",
        "422": "The request cannot be used",
        "429": "More than one person may have at once",
    }.items()
}


class StoredBytesDamaged(ProblemError):
    slug = "digest-mismatch"
    title = "The object store returned other bytes than were put there"


def answer_with_problems(app: FastAPI) -> None:
    """Whatever goes wrong in a request is answered with a problem."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(OperationalError, _on_database_away)
    app.add_exception_handler(InterfaceError, _on_database_away)
    app.add_exception_handler(DataError, _on_unstorable)
    app.add_exception_handler(urllib3.exceptions.HTTPError, _on_store_away)
    app.add_exception_handler(DigestMismatch, _on_damaged)
    app.add_exception_handler(Exception, _on_bug)


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    body = problem.model_dump(mode="json", exclude_none=True)
    return JSONResponse(body, problem.status, headers, media_type=PROBLEM_JSON)


def _on_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)  # noqa: S101 - registered for this type
    return problem_response(error.problem, HEADERS.get(error.problem.status))


def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    """Name the fields and what is wrong, and never echo the input: it may be a patient's."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type
    faults = [_fault(e, error.body) for e in error.errors() if e["type"] != CONSEQUENCE]
    first = faults[0]
    return problem_response(
        Problem(
            type="urn:synthorax:problem:invalid",
            title=Unprocessable.title,
            status=422,
            detail="; ".join(f"{f['field']}: {f['reason']}" for f in faults[:10]),
            field=first["field"],
            accepted=first.get("accepted"),
            errors=faults[:100],  # pyright: ignore[reportCallIssue] - extra members are allowed
        )
    )


def _fault(error: dict[str, Any], body: Any) -> dict[str, str]:
    place, *where = error["loc"]
    if place == "body":
        where = _path(where, body, missing=error["type"] == "missing")
    else:  # a parameter has no parts but places in its list
        where = [*where[:1], *(part for part in where[1:] if isinstance(part, int))]
    reason = str(error["msg"]).removeprefix("Value error, ")
    named = NAMED.fullmatch(reason) if error["type"] == "value_error" else None
    if named is not None:
        where = [*where, *([] if [*where][-1:] == [named[1]] else [named[1]])]
        reason = named[2]
    fault = {"field": ".".join(map(str, where)) or "body", "reason": reason}
    told = error.get("ctx", {})
    expected = told.get("expected", told.get("expected_tags"))
    if expected is not None:
        fault["accepted"] = str(expected)
    return fault


def _on_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
    slugs = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}
    slug = slugs.get(error.status_code, "http")
    return problem_response(
        Problem(
            type=f"urn:synthorax:problem:{slug}",
            title=str(error.detail),
            status=error.status_code,
        ),
        dict(error.headers) if error.headers else None,
    )


def _on_database_away(_: Request, error: Exception) -> JSONResponse:
    log.error("the database is away", error=type(error).__name__)
    return problem_response(
        Unavailable("The database does not answer").problem, {"Retry-After": "5"}
    )


def _on_store_away(_: Request, error: Exception) -> JSONResponse:
    log.error("the object store is away", error=type(error).__name__)
    return problem_response(
        Unavailable("The object store does not answer").problem, {"Retry-After": "5"}
    )


def _on_unstorable(_: Request, error: Exception) -> JSONResponse:
    """What no check of ours has met, and Postgres refuses: a zero byte, a number too large."""
    log.warning("a value cannot be stored or looked up", error=type(error).__name__)
    problem = Unprocessable("A text holds a zero byte, or a number is too large").problem
    return problem_response(problem)


def _on_damaged(_: Request, error: Exception) -> JSONResponse:
    log.error("an object is damaged", key=str(error))
    return problem_response(StoredBytesDamaged("Nothing of it is served; restore it").problem)


def _on_bug(_: Request, error: Exception) -> JSONResponse:
    log.error("unhandled error", error=type(error).__name__)  # the server logs where
    return problem_response(ProblemError("Please tell the people who run this suite").problem)


def _path(where: Sequence[str | int], body: Any, *, missing: bool) -> list[str | int]:
    """`where` without pydantic's names for the members of a union, which no client knows."""
    path: list[str | int] = []
    for part in where:
        known = part in body if isinstance(body, dict) else isinstance(body, list)
        if known:
            path.append(part)
            body = body[part]
    return [*path, where[-1]] if missing and where else path
