"""Every error as a problem document (RFC 9457). Says what is wrong and where, and never repeats
what was sent: it may be a patient's.
"""

import errno
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import psycopg
import urllib3
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from minio.error import S3Error
from sqlalchemy import exc
from starlette.exceptions import HTTPException
from starlette.types import ExceptionHandler

from api_schemas.base import Problem
from api_schemas.findings import FINDINGS
from services.kit.disks import is_full
from services.kit.errors import (
    Busy,
    ProblemError,
    StorageFull,
    Unauthorized,
    Unavailable,
    Unprocessable,
)
from services.kit.http.keepable import is_field
from services.kit.logging import get_logger
from services.kit.objects import DigestMismatch, ObjectMissing

log = get_logger(__name__)

RESTORE = "Its resource is marked as damaged; restore the object from a backup, or make it anew"
PROBLEM_JSON = "application/problem+json"
CONSEQUENCE = "default_factory_not_called"
"""Pydantic's name for what could not be filled in because something else is wrong."""
NAMED = re.compile(r"([a-z_][a-z_0-9.]*): (.+)", re.DOTALL)
"""What a model says of several of its fields at once begins with the one that should change."""
FAULTS_TOLD = 100
"""Faults of one request that its answer names."""
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
STORE_FULL = {"InsufficientStorage", "XMinioStorageFull", "XMinioStorageFullError"}

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": what,
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, what in {
        "400": "The body is not what its media type says",
        "401": "No valid key",
        "403": "The key may not do that",
        "404": "Not here, or not yours",
        "409": "Does not fit the present state",
        "410": "What the `Idempotency-Key` made has been deleted; `deletion` names by what",
        "422": "The request cannot be used",
        "413": "The body is larger than the route takes",
        "429": "More than one person may have at once",
        "503": "A part of the suite is away, or too much arrives at once; `Retry-After` says when",
        "507": "There is no space left to store this",
    }.items()
}


class ObjectGone(ProblemError):
    status = 410
    slug = "object-missing"
    title = "The object store has lost what this resource is made of"


class StoredBytesDamaged(ProblemError):
    slug = "digest-mismatch"
    title = "The object store returned other bytes than were put there"


def answer_with_problems(app: FastAPI, note_damage: Callable[[Exception], None]) -> None:
    """Whatever goes wrong in a request is answered with a problem. `note_damage` is told of what
    may come from an object that is missing or altered.
    """

    def noting(answer: Callable[[Request, Exception], JSONResponse]) -> ExceptionHandler:
        def handle(request: Request, error: Exception) -> JSONResponse:
            with suppress(exc.OperationalError, exc.InterfaceError):  # the next reader notes it
                note_damage(error)
            return answer(request, error)

        return handle

    for kind, answer in _ANSWERS.items():
        app.add_exception_handler(kind, noting(answer) if kind in _MAY_BE_DAMAGE else answer)


def problem_of(request: Request, error: Exception) -> JSONResponse:
    """The answer to an error outside of all routes."""
    kind = next(kind for kind in type(error).__mro__ if kind in _ANSWERS)
    return _ANSWERS[kind](request, error)


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    body = problem.model_dump(mode="json", exclude_none=True)
    return JSONResponse(body, problem.status, headers, media_type=PROBLEM_JSON)


def answer_of(error: ProblemError) -> JSONResponse:
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.problem.status == Unauthorized.status:
        headers["WWW-Authenticate"] = "Bearer"
    return problem_response(error.problem, headers)


def _on_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)  # noqa: S101 - registered for this type
    return answer_of(error)


def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    """Name the fields and what is wrong, and never echo the input: it may be a patient's."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type
    causes = (each for each in error.errors() if each["type"] != CONSEQUENCE)
    faults = [_fault(each, error.body) for each in islice(causes, FAULTS_TOLD)]
    first = faults[0]
    return problem_response(
        Problem(
            type="urn:synthorax:problem:invalid",
            title=Unprocessable.title,
            status=422,
            detail="; ".join(f"{f['field']}: {f['reason']}" for f in faults[:10]),
            field=first["field"],
            accepted=first.get("accepted"),
            errors=faults,  # pyright: ignore[reportCallIssue] - extra members are allowed
        )
    )


def _fault(error: dict[str, Any], body: Any) -> dict[str, str]:
    place, *where = error["loc"]
    if place == "body":
        where = _path(where, body, missing=error["type"] == "missing")
    else:  # a parameter has no parts but places in its list
        where = [*where[:1], *(part for part in where[1:] if isinstance(part, int))]
    where = list(takewhile(_may_be_told, where))
    reason = str(error["msg"]).removeprefix("Value error, ")
    told = error.get("ctx", {})
    match error["type"]:
        case "union_tag_invalid":
            where, reason = [*where, told["discriminator"].strip("'")], "none of what is accepted"
        case "union_tag_not_found":
            where, reason = [*where, told["discriminator"].strip("'")], "Field required"
        case str(kind) if kind.endswith("_parsing"):
            reason = reason.partition(",")[0]  # behind it may stand what was found
        case _:
            pass
    named = NAMED.fullmatch(reason) if error["type"] == "value_error" else None
    if named is not None:
        where = [*where, *([] if [*where][-1:] == [named[1]] else [named[1]])]
        reason = named[2]
    fault = {"field": ".".join(map(str, where)) or str(place), "reason": reason}
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
    assert isinstance(error, exc.DBAPIError)  # noqa: S101 - registered for these types
    cause = error.orig
    if isinstance(cause, psycopg.errors.DiskFull):
        log.error("the disk of the database is full")
        return answer_of(StorageFull("The disk of the database is full"))
    if isinstance(cause, psycopg.errors.LockNotAvailable):
        log.warning("a request waited too long for a lock")
        return answer_of(Busy("Other work holds what this would change"))
    log.error("the database is away", error=type(cause or error).__name__)
    return answer_of(Unavailable("The database does not answer"))


def _on_pool_exhausted(_: Request, error: Exception) -> JSONResponse:
    log.warning("no connection to the database was free", error=type(error).__name__)
    return answer_of(Busy("No connection to the database became free"))


def _on_store_away(_: Request, error: Exception) -> JSONResponse:
    log.error("the object store is away", error=type(error).__name__)
    return answer_of(Unavailable("The object store does not answer"))


def _on_store_refusal(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, S3Error)  # noqa: S101 - registered for this type
    log.error("the object store refused", code=error.code)
    folder: Path | None = request.app.state.store_folder
    if error.code in STORE_FULL or (folder is not None and is_full(folder)):
        return answer_of(StorageFull("The disk of the object store is full"))
    return answer_of(Unavailable("The object store answered with an error"))


def _on_system_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)  # noqa: S101 - registered for this type
    if error.errno not in DISK_FULL:
        return _on_bug(request, error)
    log.error("the disk of this process is full")
    return answer_of(StorageFull("The disk on which this would be received is full"))


def _on_unstorable(_: Request, error: Exception) -> JSONResponse:
    """What no check of ours has met, and Postgres refuses: a zero byte, a number too large."""
    log.warning("a value cannot be stored or looked up", error=type(error).__name__)
    return answer_of(Unprocessable("A text holds a zero byte, or a number is too large"))


def _on_damaged(_: Request, error: Exception) -> JSONResponse:
    log.error("an object is damaged", key=str(error))
    return answer_of(StoredBytesDamaged("Nothing of it is served; restore it"))


def _on_missing(_: Request, error: Exception) -> JSONResponse:
    log.error("an object is missing", key=str(error))
    return answer_of(ObjectGone(RESTORE))


def _on_bug(_: Request, error: Exception) -> JSONResponse:
    log.error("unhandled error", error=type(error).__name__)  # the server logs where
    return answer_of(ProblemError("Please tell the people who run this suite"))


def _path(where: Sequence[str | int], body: Any, *, missing: bool) -> list[str | int]:
    """`where` without pydantic's names for the members of a union, which no client knows."""
    path: list[str | int] = []
    for part in where:
        if _is_part(part, body):
            path.append(part)
            body = body[part]
    return [*path, where[-1]] if missing and where else path


def _may_be_told(part: str | int) -> bool:
    """Whether a part of a place is a word of ours. Another key may be anybody's name."""
    return is_field(part) or part in FINDINGS


def _is_part(part: str | int, body: Any) -> bool:
    """A place that pydantic names may lie beyond the end of a list, which was too short."""
    if isinstance(body, list):
        return isinstance(part, int) and 0 <= part < len(body)
    return isinstance(body, dict) and part in body


_ANSWERS: dict[type[Exception], Callable[[Request, Exception], JSONResponse]] = {
    ProblemError: _on_problem,
    RequestValidationError: _on_invalid,
    HTTPException: _on_http_error,
    exc.OperationalError: _on_database_away,
    exc.InterfaceError: _on_database_away,
    exc.TimeoutError: _on_pool_exhausted,
    exc.DataError: _on_unstorable,
    urllib3.exceptions.HTTPError: _on_store_away,
    S3Error: _on_store_refusal,
    OSError: _on_system_error,
    DigestMismatch: _on_damaged,
    ObjectMissing: _on_missing,
    Exception: _on_bug,
}
_MAY_BE_DAMAGE = {ProblemError, DigestMismatch, ObjectMissing}
