"""Routes of scorings."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api_schemas.base import DeletionView, Page
from api_schemas.scorings import ScoringRequest, ScoringView
from services.kit.auth import Reader, Writer
from services.kit.deletion import Deletions, DerivedQuery
from services.kit.http import CursorQuery, Events, IdempotencyHeader, LimitQuery
from services.training.service.scorings import Scorings

PARQUET = "application/vnd.apache.parquet"
_OF_PARQUET: dict[int | str, dict[str, Any]] = {200: {"content": {PARQUET: {}}}}


def scoring_routes(scorings: Scorings, deletions: Deletions) -> APIRouter:
    router = APIRouter(tags=["training"])
    _asked(router, scorings)
    _events(router, scorings)
    _deletion(router, deletions)
    return router


def _asked(router: APIRouter, scorings: Scorings) -> None:
    @router.post("/scorings", status_code=202)
    def post_scoring(
        body: ScoringRequest,
        caller: Writer,
        response: Response,
        idempotency_key: IdempotencyHeader = None,
    ) -> ScoringView:
        """Score data with a trained classifier, and evaluate what comes out."""
        view = scorings.order(caller, body, idempotency_key)
        response.headers["Location"] = f"/scorings/{view.id}"
        return view

    @router.get("/scorings")
    def list_scorings(
        caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[ScoringView]:
        """The project's scorings, newest first."""
        return scorings.browse(caller, cursor, limit)

    @router.get("/scorings/{scoring}")
    def get_scoring(scoring: UUID, caller: Reader) -> ScoringView:
        """A scoring, its job, and the evaluation of its predictions."""
        return scorings.scoring(caller, scoring)

    @router.get("/scorings/{scoring}/predictions", response_class=Response, responses=_OF_PARQUET)
    def get_scoring_predictions(scoring: UUID, caller: Reader) -> Response:
        """One row an image and label, as Parquet; 409 before they are there."""
        return Response(scorings.predictions(caller, scoring), media_type=PARQUET)

    @router.post("/scorings/{scoring}/cancel")
    def cancel_scoring(scoring: UUID, caller: Writer) -> ScoringView:
        """Stop it. Cancelled already: 200; finished: 409."""
        return scorings.cancel(caller, scoring)


def _events(router: APIRouter, scorings: Scorings) -> None:
    def visible(scoring: UUID, caller: Reader) -> ScoringView:
        return scorings.scoring(caller, scoring)

    @router.get("/scorings/{scoring}/events", response_class=EventSourceResponse)
    async def scoring_events(
        shown: Annotated[ScoringView, Depends(visible)],
        events: Events,
    ) -> AsyncIterator[ServerSentEvent]:
        """Progress as Server-Sent Events, until it ends."""
        async for event in events.of(shown.job.id):
            yield event


def _deletion(router: APIRouter, deletions: Deletions) -> None:
    @router.get("/scorings/{scoring}/deletion")
    def get_scoring_deletion(scoring: UUID, caller: Reader) -> DeletionView:
        """What deleting it would take, or how far its deletion is."""
        return deletions.look(caller, scoring)

    @router.delete("/scorings/{scoring}", status_code=202)
    def delete_scoring(
        scoring: UUID, caller: Writer, response: Response, derived: DerivedQuery = False
    ) -> DeletionView:
        """Delete it with its predictions."""
        response.headers["Location"] = f"/scorings/{scoring}/deletion"
        return deletions.delete(caller, scoring, derived=derived)
