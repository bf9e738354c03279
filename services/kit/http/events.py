"""A job's events as a stream that ends with the job, or with the key that opened it.

One poller a process asks the database for all streams at once. A stream that has something to
send, or whose reader is slow, is not asked for: nothing is kept for it meanwhile.
"""

import asyncio
import re
from asyncio import AbstractEventLoop, Future
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID
from weakref import WeakKeyDictionary

from anyio import to_thread
from fastapi import Depends, Header, Request
from fastapi.sse import ServerSentEvent
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api_schemas.base import JobEvent
from services.kit.auth import Auth, Identity, identity_of
from services.kit.db import Database
from services.kit.jobs.ledger import Jobs
from services.kit.logging import get_logger

POLL_S = 0.5
SOON_S = 0.05
"""A stream that was just opened is asked for without waiting for the next poll."""
KEYS_S = 2.0
"""So often it is asked whether the keys of the open streams still hold."""
DATABASE_AWAY_S = 2.0

log = get_logger(__name__)


@dataclass(eq=False)
class _Ask:
    """A stream that waits for events of `job` after the event `after`."""

    job: UUID
    after: int
    key_hash: str | None
    answer: "Future[list[JobEvent] | None]"


class JobFeed:
    """The events of jobs, for all streams of an app."""

    def __init__(self, db: Database, jobs: Jobs, auth: Auth) -> None:
        self._db, self._jobs, self._auth = db, jobs, auth
        self._pollers: WeakKeyDictionary[AbstractEventLoop, _Poller] = WeakKeyDictionary()

    async def after(self, job: UUID, event: int, key_hash: str | None) -> list[JobEvent] | None:
        """Events of the job after an event, as soon as there are any; None once there will be no
        more, because the job has ended or the key no longer holds.
        """
        poller = self._pollers.setdefault(asyncio.get_running_loop(), _Poller(self))
        return await poller.ask(job, event, key_hash)

    def read(self, asked: dict[UUID, int]) -> tuple[dict[UUID, list[JobEvent]], set[UUID]]:
        """Events by job, each after its own event, and the jobs that have ended."""
        with self._db.transaction() as tx:
            ended = self._jobs.ended(tx, asked)  # before the events: what ends has its last one
            return self._jobs.events(tx, asked), ended

    def active(self, hashes: Collection[str]) -> set[str]:
        return self._auth.active(hashes)


class _Poller:
    """Asks for all streams of one event loop, as long as there are any."""

    def __init__(self, feed: JobFeed) -> None:
        self._feed = feed
        self._asks: set[_Ask] = set()
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def ask(self, job: UUID, after: int, key_hash: str | None) -> list[JobEvent] | None:
        loop = asyncio.get_running_loop()
        ask = _Ask(job, after, key_hash, loop.create_future())
        self._asks.add(ask)
        self._came.set()
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run())
        try:
            return await ask.answer
        finally:
            self._asks.discard(ask)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        keys_asked = loop.time()
        while self._asks:
            try:
                await self._poll()
                if loop.time() - keys_asked > KEYS_S:
                    await self._check_keys()
                    keys_asked = loop.time()
            except (DBAPIError, PoolTimeout) as error:
                log.warning("streams wait for the database", error=type(error).__name__)
                await asyncio.sleep(DATABASE_AWAY_S)
            self._came.clear()
            await asyncio.sleep(SOON_S)
            try:
                async with asyncio.timeout(POLL_S - SOON_S):
                    await self._came.wait()
            except TimeoutError:
                pass

    async def _poll(self) -> None:
        asks = list(self._asks)
        asked: dict[UUID, int] = {}
        for ask in asks:
            asked[ask.job] = min(ask.after, asked.get(ask.job, ask.after))
        events, ended = await to_thread.run_sync(self._feed.read, asked)
        for ask in asks:
            fresh = [each for each in events.get(ask.job, []) if each.id > ask.after]
            if fresh or ask.job in ended:
                _answer(ask, fresh or None)

    async def _check_keys(self) -> None:
        asks = [ask for ask in self._asks if ask.key_hash is not None]
        hashes = {ask.key_hash for ask in asks if ask.key_hash is not None}
        active = await to_thread.run_sync(self._feed.active, hashes)
        for ask in asks:
            if ask.key_hash not in active:
                _answer(ask, None)


def _answer(ask: _Ask, events: list[JobEvent] | None) -> None:
    if not ask.answer.done():
        ask.answer.set_result(events)


@dataclass(frozen=True)
class EventStream:
    """What a route needs to answer with the events of a job."""

    feed: JobFeed
    key_hash: str | None
    last_event: int

    async def of(self, job: UUID) -> AsyncIterator[ServerSentEvent]:
        """The job's events from after the last one that the client knows. For `async def` routes.

        Check ownership before: this streams whatever job it is given.
        """
        after = self.last_event
        while (events := await self.feed.after(job, after, self.key_hash)) is not None:
            for event in events:
                after = event.id
                yield ServerSentEvent(data=event, event=event.kind, id=str(event.id))


async def _stream(
    request: Request,
    identity: Annotated[Identity, Depends(identity_of)],
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=40)] = None,
) -> EventStream:
    return EventStream(request.app.state.feed, identity.key_hash, _event_number(last_event_id))


Events = Annotated[EventStream, Depends(_stream)]
"""Parameter type of a route that streams: `async for event in events.of(job): yield event`."""


def _event_number(last_event_id: str | None) -> int:
    """0, which is before all, for what is no number of an event."""
    known = last_event_id is not None and re.fullmatch("[0-9]{1,18}", last_event_id)
    return int(last_event_id or 0) if known else 0
