"""Routes of datasets: parse, call, return."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api_schemas.base import DeletionView, Page
from api_schemas.datasets import (
    DatasetView,
    Duplicate,
    Rejection,
    RejectionCode,
    Sample,
    SampleQuery,
    SheetQuery,
    Summary,
    UploadView,
)
from api_schemas.imports import DatasetRequest
from api_schemas.lookups import LookupRequest, LookupView
from api_schemas.paper import BlankLabels, PaperFile
from api_schemas.selection import ViewRequest
from api_schemas.terms import Licence
from api_schemas.withdrawals import WithdrawalRequest, WithdrawalView
from services.datasets.service import Datasets, Uploads, Views, Withdrawals
from services.kit.auth import Reader, Writer
from services.kit.deletion import Deletions, DerivedQuery
from services.kit.http import (
    COUNTS_ITSELF,
    CursorQuery,
    Events,
    IdempotencyHeader,
    LimitQuery,
)

PARQUET = "application/vnd.apache.parquet"
PNG = "image/png"
CSV = "text/csv"
LISTING_LIMIT = 4 << 20
"""Bytes of a body that lists patients, samples or files: 10,000 of each."""
ARCHIVE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


CodeQuery = Annotated[
    RejectionCode | None, Query(description="only these; `burned-in` is for a person to look at")
]


BlankQuery = Annotated[
    BlankLabels | None,
    Query(description="how a table writes a label that nobody mentioned: `0` unless asked"),
]


def routes(
    datasets: Datasets,
    views: Views,
    deletion: APIRouter,
    withdrawals: Withdrawals,
) -> APIRouter:
    router = APIRouter(tags=["datasets"])
    one = APIRouter(prefix="/datasets")
    _collection(one, datasets)
    _derivation(one, datasets, views)
    _content(one, datasets)
    _progress(one, datasets)
    one.include_router(deletion)
    router.include_router(one)
    _withdrawal(router, withdrawals)
    return router


def _collection(router: APIRouter, datasets: Datasets) -> None:
    @router.post("", status_code=202)
    def post_dataset(
        body: Annotated[DatasetRequest, Body()],
        caller: Writer,
        response: Response,
        idempotency_key: IdempotencyHeader = None,
    ) -> DatasetView:
        """Import chest X-rays from files, or draw phantoms. Answers at once; the job goes on."""
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


def _derivation(router: APIRouter, datasets: Datasets, views: Views) -> None:
    @router.post("/{dataset}/views", status_code=202)
    def post_view(
        dataset: UUID,
        body: ViewRequest,
        caller: Writer,
        response: Response,
        idempotency_key: IdempotencyHeader = None,
    ) -> DatasetView:
        """Make a dataset of this one's images: filtered, one image a patient, split anew."""
        view = views.order(caller, dataset, body, idempotency_key)
        response.headers["Location"] = f"/datasets/{view.id}"
        return view

    @router.put("/{dataset}/licence")
    def put_licence(dataset: UUID, body: Licence, caller: Writer) -> DatasetView:
        """State what the dataset may be used for. Holds for its views, and for what is exported
        from now on.
        """
        return datasets.state_licence(caller, dataset, body)


def _content(router: APIRouter, datasets: Datasets) -> None:
    @router.get("/{dataset}/summary")
    def get_summary(dataset: UUID, caller: Reader) -> Summary:
        """Counts by label, pair of labels, split and demographics; what is missing."""
        return datasets.summary(caller, dataset)

    @router.get("/{dataset}/samples")
    def list_samples(
        dataset: UUID, caller: Reader, query: Annotated[SampleQuery, Query()]
    ) -> Page[Sample]:
        """The samples, all or those that meet the filter, in the order of the source."""
        return datasets.samples(caller, dataset, query)

    @router.post("/{dataset}/lookups", max_body_size=LISTING_LIMIT)
    def post_lookup(dataset: UUID, body: LookupRequest, caller: Reader) -> LookupView:
        """Which samples files or rows of one's own are. Nothing of the request is kept."""
        return datasets.look_up(caller, dataset, body)

    @router.get("/{dataset}/sheet.png", response_class=Response, responses=_of(PNG))
    def get_sheet(dataset: UUID, caller: Reader, query: Annotated[SheetQuery, Query()]) -> Response:
        """A contact sheet, for the dataset's owner: samples that meet the filter, drawn by seed."""
        content = datasets.sheet(caller, dataset, query)
        return Response(content, media_type=PNG, headers={"Cache-Control": "private, no-store"})

    @router.get("/{dataset}/samples/{sample_id}.png", response_class=Response, responses=_of(PNG))
    def get_sample_png(dataset: UUID, sample_id: str, caller: Reader) -> Response:
        """A prepared image."""
        return Response(datasets.png(caller, dataset, sample_id), media_type=PNG)

    @router.get("/{dataset}/rejections")
    def list_rejections(
        dataset: UUID,
        caller: Reader,
        code: CodeQuery = None,
        cursor: CursorQuery = None,
        limit: LimitQuery = 100,
    ) -> Page[Rejection]:
        """What of the source could not be used, with the reason, by line."""
        return datasets.rejections(caller, dataset, code, cursor, limit)

    @router.get("/{dataset}/duplicates")
    def list_duplicates(
        dataset: UUID, caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[Duplicate]:
        """Pairs of samples with the same picture, then with nearly the same (10,000 at most)."""
        return datasets.duplicates(caller, dataset, cursor, limit)

    @router.get("/{dataset}/manifest", response_class=Response, responses=_of(PARQUET))
    def get_manifest(dataset: UUID, caller: Reader) -> Response:
        """The manifest: a Parquet table, one row a sample."""
        return Response(datasets.manifest_bytes(caller, dataset), media_type=PARQUET)

    @router.get("/{dataset}/paper/{name}", response_class=Response, responses=_of(CSV))
    def get_paper_file(
        dataset: UUID, name: PaperFile, caller: Reader, blank: BlankQuery = None
    ) -> Response:
        """The dataset as one of the paper's own files, for the authors' scripts."""
        return Response(datasets.paper_file(caller, dataset, name, blank), media_type=CSV)


def upload_routes(uploads: Uploads) -> APIRouter:
    router = APIRouter(prefix="/uploads", tags=["datasets"])

    @router.post("", status_code=201, openapi_extra=ARCHIVE, max_body_size=COUNTS_ITSELF)
    async def post_upload(request: Request, caller: Writer) -> UploadView:
        """Send an archive (zip or tar) to import from: the body is the file."""
        return await uploads.receive(caller, request.stream())

    @router.delete("/{upload}", status_code=204)
    def delete_upload(upload: UUID, caller: Writer) -> None:
        """Discard an archive that nothing is to be imported from."""
        uploads.discard(caller, upload)

    return router


def _progress(router: APIRouter, datasets: Datasets) -> None:
    def job_of(dataset: UUID, caller: Reader) -> UUID:
        return datasets.job(caller, dataset)

    @router.post("/{dataset}/cancel")
    def cancel_dataset(dataset: UUID, caller: Writer) -> DatasetView:
        """Stop the import; cancelled already is fine, finished is a 409."""
        return datasets.cancel(caller, dataset)

    @router.get("/{dataset}/events", response_class=EventSourceResponse)
    async def stream_events(
        job: Annotated[UUID, Depends(job_of)],
        events: Events,
    ) -> AsyncIterator[ServerSentEvent]:
        """Progress of the import as Server-Sent Events, until it has ended."""
        async for event in events.of(job):
            yield event


def _withdrawal(router: APIRouter, withdrawals: Withdrawals) -> None:
    @router.post("/withdrawals", status_code=202, max_body_size=LISTING_LIMIT)
    def post_withdrawal(
        body: WithdrawalRequest,
        caller: Writer,
        response: Response,
        idempotency_key: IdempotencyHeader = None,
    ) -> WithdrawalView:
        """Take patients out of every dataset of the project, for good."""
        view = withdrawals.order(caller, body, idempotency_key)
        response.headers["Location"] = f"/withdrawals/{view.id}"
        return view

    @router.get("/withdrawals")
    def list_withdrawals(
        caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[WithdrawalView]:
        """The project's withdrawals, newest first."""
        return withdrawals.browse(caller, cursor, limit)

    @router.get("/withdrawals/{withdrawal}")
    def get_withdrawal(withdrawal: UUID, caller: Reader) -> WithdrawalView:
        """A withdrawal, its job, and what it did to which dataset."""
        return withdrawals.withdrawal(caller, withdrawal)


def _of(media_type: str) -> dict[int | str, dict[str, object]]:
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}}
