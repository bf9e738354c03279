"""Routes of accounts: parse, call, return."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api_schemas.accounts import KeyRequest, KeyView, Me, NewKey
from api_schemas.base import JobView, Page
from api_schemas.jobs import AttemptView, PriorityRequest, QueueView, ShareRequest, ShareView
from services.accounts.service import Accounts, Work
from services.kit.auth import Admin, Reader, Writer
from services.kit.http import CursorQuery, Events, LimitQuery


def routes(accounts: Accounts, work: Work) -> APIRouter:
    router = APIRouter()
    _people(router, accounts)
    _work(router, work)
    _events(router, work)
    _shares(router, work)
    return router


def _people(router: APIRouter, accounts: Accounts) -> None:

    @router.get("/me", tags=["accounts"])
    def get_me(caller: Reader) -> Me:
        """Who this key speaks for."""
        return accounts.me(caller)

    @router.post("/keys", status_code=201, tags=["accounts"])
    def post_key(body: KeyRequest, caller: Admin) -> NewKey:
        """Make a key. It is shown in this answer and never again."""
        return accounts.make_key(caller, body)

    @router.get("/keys", tags=["accounts"])
    def list_keys(
        caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[KeyView]:
        """Your keys in this project, without the keys themselves."""
        return accounts.keys(caller, cursor, limit)

    @router.delete("/keys/{key}", status_code=204, tags=["accounts"])
    def revoke_key(key: UUID, caller: Admin) -> None:
        """Revoke a key; it is refused from now on."""
        accounts.revoke(caller, key)


def _work(router: APIRouter, work: Work) -> None:
    @router.get("/queue", tags=["jobs"])
    def get_queue(caller: Reader) -> list[QueueView]:
        """Everyone's place in every queue, with estimates; what others run is not told."""
        return work.queue(caller)

    @router.get("/jobs/{job}", tags=["jobs"])
    def get_job(job: UUID, caller: Reader) -> JobView:
        """A job of the project, whichever service it belongs to."""
        return work.job(caller, job)

    @router.get("/jobs/{job}/attempts", tags=["jobs"])
    def list_attempts(job: UUID, caller: Reader) -> list[AttemptView]:
        """Who worked on it, on which device and versions, and how each attempt ended."""
        return work.attempts(caller, job)

    @router.post("/jobs/{job}/cancel", tags=["jobs"])
    def cancel_job(job: UUID, caller: Writer) -> JobView:
        """Cancel; cancelled already is fine, finished is a 409."""
        return work.cancel(caller, job)

    @router.post("/jobs/{job}/retry", tags=["jobs"])
    def retry_job(job: UUID, caller: Writer) -> JobView:
        """Queue quarantined work again, its crashes forgiven; anything else is a 409."""
        return work.retry(caller, job)

    @router.put("/jobs/{job}/priority", tags=["jobs"])
    def put_priority(job: UUID, body: PriorityRequest, caller: Writer) -> JobView:
        """Let a job step back behind others; above 0 takes an administrator."""
        return work.prioritise(caller, job, body)


def _events(router: APIRouter, work: Work) -> None:
    def known(job: UUID, caller: Reader) -> UUID:
        return work.job(caller, job).id

    @router.get("/jobs/{job}/events", response_class=EventSourceResponse, tags=["jobs"])
    async def list_job_events(
        known: Annotated[UUID, Depends(known)], events: Events
    ) -> AsyncIterator[ServerSentEvent]:
        """States, progress and notes as Server-Sent Events, until the job ends.

        `Last-Event-ID` goes on behind the event of that number.
        """
        async for event in events.of(known):
            yield event


def _shares(router: APIRouter, work: Work) -> None:
    @router.get("/shares/{person}", tags=["jobs"])
    def get_share(person: UUID, caller: Reader) -> ShareView:
        """Weight, caps and decayed use: your own, or as an administrator anybody's."""
        return work.share(caller, person)

    @router.put("/shares/{person}", tags=["jobs"])
    def put_share(person: UUID, body: ShareRequest, _: Admin) -> ShareView:
        """Give a person another weight or caps of their own."""
        return work.grant(person, body)
