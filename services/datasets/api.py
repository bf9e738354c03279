"""Routes of datasets: parse, call, return."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Header, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api_schemas.base import DeletionView, Page
from api_schemas.datasets import DatasetRequest, DatasetView, Rejection, Sample, Summary
from services.datasets.service import Datasets
from services.kit.auth import Reader, Writer
from services.kit.db import Database
from services.kit.deletion import Deletions, DerivedQuery
from services.kit.http import CursorQuery, IdempotencyHeader, LimitQuery, job_events
from services.kit.jobs import Jobs

PARQUET = "application/vnd.apache.parquet"
PNG = "image/png"


def routes(datasets: Datasets, db: Database, jobs: Jobs) -> APIRouter:
    router = APIRouter(prefix="/datasets", tags=["datasets"])
    _collection(router, datasets)
    _content(router, datasets)
    _progress(router, datasets, db, jobs)
    return router


def _collection(router: APIRouter, datasets: Datasets) -> None:
    @router.post("", status_code=202)
    def post_dataset(
        body: Annotated[DatasetRequest, Body()],
        caller: Writer,
        response: Response,
        idempotency_key: IdempotencyHeader = None,
    ) -> DatasetView:
        """Import a CSV of chest X-rays, or draw phantoms. Answers at once; the job goes on."""
        view = datasets.register(caller, body, idempotency_key)
        response.headers["Location"] = f"/datasets/{view.id}"
        return view

    @router.get("")
    def list_datasets(
        caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[DatasetView]:
        """The project's datasets, newest first."""
        return datasets.browse(caller, cursor, limit)

    @router.get("/{dataset}")
    def get_dataset(dataset: UUID, caller: Reader) -> DatasetView:
        """A dataset, its import job and, once that is done, its manifest."""
        return datasets.dataset(caller, dataset)


def deletion_routes(deletions: Deletions) -> APIRouter:
    """To be included in the router of the others."""
    router = APIRouter()

    @router.get("/{dataset}/deletion")
    def get_dataset_deletion(dataset: UUID, caller: Reader) -> DeletionView:
        """What deleting it would take, or how far its deletion is."""
        return deletions.look(caller, dataset)

    @router.delete("/{dataset}", status_code=202)
    def delete_dataset(
        dataset: UUID, caller: Writer, response: Response, derived: DerivedQuery = False
    ) -> DeletionView:
        """Delete it with its images: gone at once for readers, the images follow in a job."""
        response.headers["Location"] = f"/datasets/{dataset}/deletion"
        return deletions.delete(caller, dataset, derived=derived)

    return router


def _content(router: APIRouter, datasets: Datasets) -> None:
    @router.get("/{dataset}/summary")
    def get_summary(dataset: UUID, caller: Reader) -> Summary:
        """Counts by label, split and demographics."""
        return datasets.summary(caller, dataset)

    @router.get("/{dataset}/samples")
    def list_samples(
        dataset: UUID, caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[Sample]:
        """The samples, in the order of the source."""
        return datasets.samples(caller, dataset, cursor, limit)

    @router.get("/{dataset}/samples/{sample_id}.png", response_class=Response, responses=_of(PNG))
    def get_sample_png(dataset: UUID, sample_id: str, caller: Reader) -> Response:
        """A prepared image."""
        return Response(datasets.png(caller, dataset, sample_id), media_type=PNG)

    @router.get("/{dataset}/rejections")
    def list_rejections(
        dataset: UUID, caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[Rejection]:
        """The rows of the source that could not be used, with the reason, by line."""
        return datasets.rejections(caller, dataset, cursor, limit)

    @router.get("/{dataset}/manifest", response_class=Response, responses=_of(PARQUET))
    def get_manifest(dataset: UUID, caller: Reader) -> Response:
        """The manifest: a Parquet table, one row a sample."""
        return Response(datasets.manifest_bytes(caller, dataset), media_type=PARQUET)


def _progress(router: APIRouter, datasets: Datasets, db: Database, jobs: Jobs) -> None:
    def job_of(dataset: UUID, caller: Reader) -> UUID:
        return datasets.job(caller, dataset)

    @router.post("/{dataset}/cancel")
    def cancel_dataset(dataset: UUID, caller: Writer) -> DatasetView:
        """Stop the import; cancelled already is fine, finished is a 409."""
        return datasets.cancel(caller, dataset)

    @router.get("/{dataset}/events", response_class=EventSourceResponse)
    async def stream_events(
        job: Annotated[UUID, Depends(job_of)],
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> AsyncIterator[ServerSentEvent]:
        """Progress of the import as Server-Sent Events, until it has ended."""
        async for event in job_events(db, jobs, job, last_event_id):
            yield event


def _of(media_type: str) -> dict[int | str, dict[str, object]]:
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}}
