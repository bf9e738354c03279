"""What happens to a request before its route sees it: who asks is known before anything of the
body is read, and the body is bounded while it arrives. Knows no route but the open ones.
"""

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.kit.auth import Auth
from services.kit.http.problems import problem_of

OPEN = ("/health", "/openapi.json", "/docs")
"""Paths that need no key, with what lies below them: they say nothing of anybody."""
BYTES_A_VALUE = 32
"""A JSON body may hold one value for so many bytes of what its route takes: parsed, a small value
takes many times the space that it takes on the wire.
"""


class BodyTooLarge(HTTPException):
    def __init__(self, limit: int) -> None:
        super().__init__(413, f"The body may have {limit} bytes here")


class TooManyValues(HTTPException):
    """The body is small enough, but is made of more values than its route needs."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"The body may hold {limit} values here")


class Door:
    """An app whose requests have an identity (`request.state.identity`), open paths aside."""

    def __init__(self, app: ASGIApp, auth: Auth) -> None:
        self._app = app
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not _is_open(scope):
            try:
                identity = await to_thread.run_sync(self._auth.authenticate, headers)
            except Exception as error:  # noqa: BLE001 - answered like any other
                answer = problem_of(Request(scope), error)
                await answer(scope, receive, send)
                return
            scope.setdefault("state", {})["identity"] = identity
        # the framework answers a length that is too large in plain text; it is counted here
        own = [each for each in scope["headers"] if each[0] != b"content-length"]
        scope["headers"] = own
        await self._app(scope, _Bounded(scope, receive, headers), send)


class _Bounded:
    """The body of a request, of at most so many bytes and values as its route takes."""

    def __init__(self, scope: Scope, receive: Receive, headers: Headers) -> None:
        self._scope = scope
        self._receive = receive
        length = headers.get("content-length", "")
        self._declared = int(length) if length.isdecimal() and length.isascii() else 0
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        self._is_json = media_type.endswith(("/json", "+json"))
        self._bytes, self._values = 0, 0

    async def __call__(self) -> Message:
        limit: int | None = self._scope.get(MAX_BODY_SIZE_SCOPE_KEY)
        if limit is not None and self._declared > limit:
            raise BodyTooLarge(limit)
        message = await self._receive()
        if limit is not None and message["type"] == "http.request":
            self._count(message.get("body", b""), limit)
        return message

    def _count(self, part: bytes, limit: int) -> None:
        self._bytes += len(part)
        if self._bytes > limit:
            raise BodyTooLarge(limit)
        if self._is_json:
            self._values += sum(part.count(sign) for sign in (b",", b"[", b"{"))
            if self._values > limit // BYTES_A_VALUE:
                raise TooManyValues(limit // BYTES_A_VALUE)


def _is_open(scope: Scope) -> bool:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return any(path == each or path.startswith(f"{each}/") for each in OPEN)
