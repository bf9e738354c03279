"""Requests that change something are let in a few at a time, and those with one Idempotency-Key
one after the other. Whoever waits holds neither a thread nor a connection.

A flood of them so leaves threads, connections and computing time to those who only look.
"""

from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated
from weakref import WeakKeyDictionary

import anyio
from fastapi import Depends, Request
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY

from services.kit.auth import Identity, identity_of
from services.kit.errors import Busy

COUNTS_ITSELF = 1 << 62
"""`max_body_size` of a route that reads its body itself, counts it, and says what it takes."""
AT_ONCE = 4
WAIT_S = 4.0
LOOKING = {"GET", "HEAD", "OPTIONS"}

Key = tuple[object, ...]


@dataclass
class _Turn:
    """Requests with one key. Once the first has made something, the others only look it up."""

    lock: anyio.Lock = field(default_factory=anyio.Lock)
    made: bool = False
    waiting: int = 0


class _Hall:
    """Where the requests of one event loop wait."""

    def __init__(self) -> None:
        self._places = anyio.Semaphore(AT_ONCE)
        self._turns: dict[Key, _Turn] = {}

    @asynccontextmanager
    async def admitted(self, key: Key | None) -> AsyncGenerator[None]:
        """Raises `Busy` (503) when that takes more than `WAIT_S`."""
        end = anyio.current_time() + WAIT_S
        async with self._in_turn(key, end):
            await _until(end, self._places.acquire)
            try:
                yield
            finally:
                self._places.release()

    @asynccontextmanager
    async def _in_turn(self, key: Key | None, end: float) -> AsyncGenerator[None]:
        if key is None:
            yield
            return
        turn = self._turns.setdefault(key, _Turn())
        turn.waiting += 1
        try:
            await _until(end, turn.lock.acquire)
            if turn.made:
                turn.lock.release()
                yield
                return
            try:
                yield
                turn.made = True
            finally:
                turn.lock.release()
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._turns[key]


class Admission:
    """The halls of an app; a server has one event loop, so one."""

    def __init__(self) -> None:
        self._halls: WeakKeyDictionary[AbstractEventLoop, _Hall] = WeakKeyDictionary()

    def admitted(self, key: Key | None) -> AbstractAsyncContextManager[None]:
        return self._halls.setdefault(get_running_loop(), _Hall()).admitted(key)


async def _until(end: float, acquire: Callable[[], Awaitable[None]]) -> None:
    try:
        with anyio.fail_after(max(end - anyio.current_time(), 0)):
            await acquire()
    except TimeoutError as error:
        raise Busy("Too many requests that change something came before it") from error


async def admitted(
    request: Request, identity: Annotated[Identity, Depends(identity_of)]
) -> AsyncGenerator[None]:
    """Dependency of all routes, once the body has arrived: it lasts until the route has its
    answer. A route that reads its body itself says when its work begins, with `Admit`.
    """
    reads_itself = request.scope.get(MAX_BODY_SIZE_SCOPE_KEY) == COUNTS_ITSELF
    if request.method in LOOKING or reads_itself:
        yield
        return
    async with _admit(request, identity):
        yield


async def _admitting(
    request: Request, identity: Annotated[Identity, Depends(identity_of)]
) -> Callable[[], AbstractAsyncContextManager[None]]:
    return lambda: _admit(request, identity)


Admit = Annotated[Callable[[], AbstractAsyncContextManager[None]], Depends(_admitting)]
"""Parameter type of a route that reads its body itself: `async with admit():` around its work."""


def _admit(request: Request, identity: Identity) -> AbstractAsyncContextManager[None]:
    admission: Admission = request.app.state.admission
    caller, key = identity.caller, request.headers.get("Idempotency-Key")
    return admission.admitted(None if key is None else (caller.project, caller.person, key))
