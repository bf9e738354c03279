"""A job's events as a stream that ends with the job, or with the key that opened it."""

import re
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import anyio
import anyio.to_thread
from fastapi import Header
from fastapi.sse import ServerSentEvent

from api_schemas.base import JobEvent
from services.kit.auth import Still
from services.kit.db import Database
from services.kit.jobs.ledger import Jobs

POLL_S = 0.5
ASKED_AGAIN_S = 2.0
"""So often an open stream asks whether its key still holds."""

LastEvent = Annotated[str | None, Header(alias="Last-Event-ID", max_length=40)]


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
