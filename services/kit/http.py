"""The web face that all services share: problems, idempotency, paging, event streams."""

import base64
import hashlib
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar
from uuid import UUID

import anyio
import anyio.to_thread
import urllib3
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from fastapi.sse import ServerSentEvent
from sqlalchemy import Select, select, text
from sqlalchemy.exc import DataError, InterfaceError, OperationalError
from sqlalchemy.orm import InstrumentedAttribute, Session
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from api_schemas.base import JobEvent, Page, Problem, Wire
from services.kit.adapters import Adapters
from services.kit.auth import Caller, Still, asks
from services.kit.db import Database, Tx
from services.kit.docs_page import add_docs_page
from services.kit.errors import ProblemError, Unavailable, Unprocessable
from services.kit.jobs.ledger import Jobs
from services.kit.jobs.models import IdempotencyKey
from services.kit.logging import get_logger
from services.kit.objects import DigestMismatch
from services.kit.shielding import Shielding

log = get_logger(__name__)

NUL = "\0"
PROBLEM_JSON = "application/problem+json"
POLL_S = 0.5
ASKED_AGAIN_S = 2.0
"""So often an open stream asks whether its key still holds."""
BODY_LIMIT = 64 << 20
"""Bytes of a JSON body: more than the longest list that any request may have."""
COUNTS_ITSELF = 1 << 62
"""`max_body_size` of a route that counts what arrives, and says what it takes."""
CONSEQUENCE = "default_factory_not_called"
"""Pydantic's name for what could not be filled in because something else is wrong."""
HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "60"}}
"""What an error of a status says beside its problem."""

View = TypeVar("View")
Row = TypeVar("Row")

IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        description="Send the same key again to get the first answer instead of a second job.",
    ),
]
CursorQuery = Annotated[str | None, Query(max_length=200, description="`next` of the page before")]
LastEvent = Annotated[str | None, Header(alias="Last-Event-ID", max_length=40)]
LimitQuery = Annotated[int, Query(ge=1, le=1000)]


class KeyUsedOtherwise(Unprocessable):
    slug = "idempotency-key-reused"
    title = "This Idempotency-Key was used with another body"


class StoredBytesDamaged(ProblemError):
    slug = "digest-mismatch"
    title = "The object store returned other bytes than were put there"


class CannotBeKept(Unprocessable):
    slug = "cannot-be-kept"
    title = "A text or number of the request is none that can be kept"


class BadCursor(Unprocessable):
    slug = "bad-cursor"
    title = "This cursor is not one of ours"


# ---------------------------------------------------------------- problems


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


NAMED = re.compile(r"([a-z_]+): (.+)", re.DOTALL)
"""What a model says of several of its fields at once begins with the one that should change."""


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


class WebApp(FastAPI):
    """FastAPI whose document describes problems once, and whose every answer is shielded: an
    unforeseen error's too.
    """

    def build_middleware_stack(self) -> ASGIApp:
        return Shielding(super().build_middleware_stack())

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        document.setdefault("components", {}).setdefault("schemas", {})
        document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        return document


def web_app(title: str, routers: Sequence[APIRouter], adapters: Adapters) -> FastAPI:
    """An app in which every route but `/health` needs a caller and every error is a problem."""

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncGenerator[None]:
        yield
        adapters.close()

    app = WebApp(
        title=f"Synthorax {title}",
        version="0.1.0",
        responses=PROBLEMS,
        docs_url=None,  # FastAPI's loads a program from elsewhere
        redoc_url=None,
        lifespan=running,
        max_body_size=BODY_LIMIT,
    )
    app.state.auth = adapters.auth
    guarded = [Depends(asks), Depends(HTTPBearer(auto_error=False)), Depends(_keepable)]
    for router in routers:
        app.include_router(router, dependencies=guarded)

    add_docs_page(app)

    @app.get("/health", tags=["health"])
    def health() -> dict[str, str]:
        """Answers when the process and its database do."""
        with adapters.db.transaction() as tx:
            tx.session.execute(text("SELECT 1"))
        return {"status": "ok"}

    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(OperationalError, _on_database_away)
    app.add_exception_handler(InterfaceError, _on_database_away)
    app.add_exception_handler(DataError, _on_unstorable)
    app.add_exception_handler(urllib3.exceptions.HTTPError, _on_store_away)
    app.add_exception_handler(DigestMismatch, _on_damaged)
    app.add_exception_handler(Exception, _on_bug)
    return app


# ---------------------------------------------------------------- what cannot be kept


async def _keepable(request: Request) -> None:
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


# ---------------------------------------------------------------- idempotency


def earlier(tx: Tx, caller: Caller, key: str | None, body: Wire) -> UUID | None:
    """The resource that this key made before, to be asked for before anything else is: what a
    request needs of the world may be gone when it comes again.

    Raises `KeyUsedOtherwise` (422) when the key came with another body.
    """
    if key is None:
        return None
    found = tx.session.execute(select(IdempotencyKey).filter_by(**_place(caller, key)))
    row = found.scalar_one_or_none()
    if row is not None and (row.body_digest != _body_digest(body) or row.resource is None):
        raise KeyUsedOtherwise("Use a new key for a new request", field="Idempotency-Key")
    return None if row is None else row.resource


def once(tx: Tx, caller: Caller, key: str | None, body: Wire, make: Callable[[], UUID]) -> UUID:
    """The resource that `make` makes, or the one this key made before.

    The key commits with the resource. A second request with it waits for the first one's
    commit; another body raises `KeyUsedOtherwise` (422).
    """
    if key is None:
        return make()
    where = _place(caller, key)
    taken = tx.session.execute(_CLAIM_KEY, {**where, "body_digest": _body_digest(body)})
    if taken.one_or_none() is None:
        made = earlier(tx, caller, key, body)
        assert made is not None  # noqa: S101 - the insert met this very row
        return made
    resource = make()
    tx.session.execute(_FILL_KEY, {**where, "resource": resource})
    return resource


def _place(caller: Caller, key: str) -> dict[str, Any]:
    return {"project": caller.project, "person": caller.person, "key": key}


def _body_digest(body: Wire) -> str:
    return hashlib.sha256(f"{type(body).__name__}:{body.model_dump_json()}".encode()).hexdigest()


_CLAIM_KEY = text(
    "INSERT INTO jobs.idempotency_keys (project, person, key, body_digest) "
    "VALUES (:project, :person, :key, :body_digest) ON CONFLICT DO NOTHING RETURNING key"
)
_FILL_KEY = text(
    "UPDATE jobs.idempotency_keys SET resource = :resource "
    "WHERE project = :project AND person = :person AND key = :key"
)


# ---------------------------------------------------------------- paging


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


# ---------------------------------------------------------------- events


async def job_events(
    db: Database, jobs: Jobs, job: UUID, last_event_id: str | None, still: Still
) -> AsyncIterator[ServerSentEvent]:
    """The job's events from after `last_event_id` on, until it has ended. For `async def` routes.

    Check ownership before: this streams whatever job it is given. It ends early when the key that
    opened it is revoked or expires.
    """

    def read(after: int) -> tuple[bool, list[JobEvent]]:
        with db.transaction() as tx:
            ended = jobs.terminal(tx, job)
            return ended, jobs.events(tx, job, after)

    after, asked = _event_number(last_event_id), anyio.current_time()
    while True:
        ended, events = await anyio.to_thread.run_sync(read, after)
        for event in events:
            after = event.id
            yield ServerSentEvent(data=event, event=event.kind, id=str(event.id))
        if ended and not events:
            return
        await anyio.sleep(0 if events else POLL_S)
        if anyio.current_time() - asked > ASKED_AGAIN_S:
            if not await anyio.to_thread.run_sync(still):
                return
            asked = anyio.current_time()


def _event_number(last_event_id: str | None) -> int:
    """0, which is before all, for what is no number of an event."""
    known = last_event_id is not None and re.fullmatch("[0-9]{1,18}", last_event_id)
    return int(last_event_id or 0) if known else 0
