"""Routes of evaluations: predictions of any classifier in, AUROC and its uncertainty out."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import ValidationError

from api_schemas.base import DeletionView, Page
from api_schemas.evaluations import EvaluationRequest, EvaluationView
from services.evaluation.service import Evaluations
from services.evaluation.service.evaluations import FILE_LIMIT, REFERENCE
from services.kit.auth import Reader, Writer
from services.kit.deletion import Deletions, DerivedQuery
from services.kit.http import (
    COUNTS_ITSELF,
    Admit,
    CursorQuery,
    Events,
    IdempotencyHeader,
    LimitQuery,
)
from services.kit.uploads import invalid, received

_TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "file"],
                    "properties": {
                        "name": _TEXT | {"maxLength": 120},
                        "file": {"type": "string", "format": "binary"},
                        "reference": {"type": "string", "format": "binary"},
                        "data": _TEXT | {"description": "dataset/{id} or generation/{id}"},
                        "split": {
                            "type": "string",
                            "enum": ["train", "validation", "test", "all"],
                            "default": "all",
                        },
                        "classifier": {"type": "string", "format": "uuid"},
                        "scoring": {"type": "string", "format": "uuid"},
                        "leakage": _TEXT | {"maxLength": 1000},
                    },
                },
                "example": {"name": "our DenseNet", "file": "ours.csv", "reference": "theirs.csv"},
            }
        },
    }
}


def evaluation_routes(evaluations: Evaluations, deletions: Deletions, scratch: Path) -> APIRouter:
    router = APIRouter(tags=["evaluation"])
    _incoming(router, evaluations, scratch)
    _outgoing(router, evaluations)
    _deletion(router, deletions)
    return router


def _incoming(router: APIRouter, evaluations: Evaluations, scratch: Path) -> None:
    @router.post("/evaluations", status_code=202, openapi_extra=FORM, max_body_size=COUNTS_ITSELF)
    async def post_evaluation(
        request: Request,
        caller: Writer,
        response: Response,
        admit: Admit,
        idempotency_key: IdempotencyHeader = None,
    ) -> EvaluationView:
        """Evaluate predictions of any classifier; with a `reference`, against another's.

        CSV or Parquet, one row an image (`id`, `patient_id`, `truth_<label>`, `score_<label>`) or
        one an image and label (`sample_id`, `patient_id`, `label`, `truth`, `score`), with any
        `group_<name>`. Ids are replaced by pseudonyms before anything is stored. With `data` the
        ids are its `sample_id`s, and it says patients, truth and groups.
        """
        async with received(request, scratch, FILE_LIMIT, [REFERENCE]) as form:
            try:
                asked = EvaluationRequest.model_validate(form.told)
            except ValidationError as error:
                raise invalid(error.errors(), form.fields) from error
            async with admit():
                view = await to_thread.run_sync(
                    evaluations.order, caller, asked, form.files, idempotency_key
                )
        response.headers["Location"] = f"/evaluations/{view.id}"
        return view


def _outgoing(router: APIRouter, evaluations: Evaluations) -> None:
    @router.get("/evaluations")
    def list_evaluations(
        caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[EvaluationView]:
        """The project's evaluations of single predictions, newest first."""
        return evaluations.browse(caller, cursor, limit)

    @router.get("/evaluations/{evaluation}")
    def get_evaluation(evaluation: UUID, caller: Reader) -> EvaluationView:
        """An evaluation, its job and, once that is done, what came out."""
        return evaluations.evaluation(caller, evaluation)

    @router.post("/evaluations/{evaluation}/cancel")
    def cancel_evaluation(evaluation: UUID, caller: Writer) -> EvaluationView:
        """Stop it; cancelled already is fine, finished is 409. The predictions stay."""
        return evaluations.cancel(caller, evaluation)

    def visible(evaluation: UUID, caller: Reader) -> EvaluationView:
        return evaluations.evaluation(caller, evaluation)

    @router.get("/evaluations/{evaluation}/events", response_class=EventSourceResponse)
    async def evaluation_events(
        shown: Annotated[EvaluationView, Depends(visible)],
        events: Events,
    ) -> AsyncIterator[ServerSentEvent]:
        """Progress as Server-Sent Events, until it ends."""
        async for event in events.of(shown.job.id):
            yield event


def _deletion(router: APIRouter, deletions: Deletions) -> None:
    @router.get("/evaluations/{evaluation}/deletion")
    def get_evaluation_deletion(evaluation: UUID, caller: Reader) -> DeletionView:
        """What deleting it would take, or how far its deletion is."""
        return deletions.look(caller, evaluation)

    @router.delete("/evaluations/{evaluation}", status_code=202)
    def delete_evaluation(
        evaluation: UUID, caller: Writer, response: Response, derived: DerivedQuery = False
    ) -> DeletionView:
        """Delete it with the predictions that were sent."""
        response.headers["Location"] = f"/evaluations/{evaluation}/deletion"
        return deletions.delete(caller, evaluation, derived=derived)
