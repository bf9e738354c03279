"""Datasets, views, withdrawals and uploads."""

from collections.abc import Iterable, Iterator
from uuid import UUID

import pyarrow as pa

from api_schemas.base import DeletionView, JobEvent
from api_schemas.client.connection import Connection
from api_schemas.datasets import (
    DatasetView,
    Duplicate,
    Rejection,
    RejectionCode,
    Sample,
    SheetQuery,
    Summary,
    UploadView,
)
from api_schemas.imports import FilesRequest, PhantomImport
from api_schemas.lookups import LookupRequest, LookupView
from api_schemas.manifest import MANIFEST, from_parquet
from api_schemas.paper import BlankLabels, PaperFile
from api_schemas.selection import Filter, ViewRequest
from api_schemas.terms import Licence
from api_schemas.withdrawals import WithdrawalRequest, WithdrawalView


class Datasets(Connection):
    """Datasets, views, withdrawals and uploads."""

    def post_dataset(
        self, request: FilesRequest | PhantomImport, *, idempotency_key: str | None = None
    ) -> DatasetView:
        return self._post(DatasetView, "/datasets", request, idempotency_key)

    def list_datasets(self) -> Iterator[DatasetView]:
        return self._all(DatasetView, "/datasets")

    def get_dataset(self, dataset: UUID) -> DatasetView:
        return self._get(DatasetView, f"/datasets/{dataset}")

    def dataset_summary(self, dataset: UUID) -> Summary:
        return self._get(Summary, f"/datasets/{dataset}/summary")

    def post_view(
        self, base: UUID, request: ViewRequest, *, idempotency_key: str | None = None
    ) -> DatasetView:
        return self._post(DatasetView, f"/datasets/{base}/views", request, idempotency_key)

    def put_licence(self, dataset: UUID, licence: Licence) -> DatasetView:
        answer = self._ask(
            "PUT", f"/datasets/{dataset}/licence", json=licence.model_dump(mode="json")
        )
        return DatasetView.model_validate_json(answer.content)

    def dataset_samples(self, dataset: UUID, where: Filter | None = None) -> Iterator[Sample]:
        """The samples, or those that meet a filter."""
        query = {} if where is None else where.model_dump(mode="json", exclude_defaults=True)
        return self._all(Sample, f"/datasets/{dataset}/samples", **query)

    def post_lookup(self, dataset: UUID, request: LookupRequest) -> LookupView:
        """The sample of each file or row of one's own."""
        return self._post(LookupView, f"/datasets/{dataset}/lookups", request)

    def dataset_sheet(self, dataset: UUID, query: SheetQuery | None = None) -> bytes:
        """A contact sheet (PNG), for the dataset's owner."""
        given = (query or SheetQuery()).model_dump(mode="json", exclude_defaults=True)
        return self._ask("GET", f"/datasets/{dataset}/sheet.png", params=given).content

    def dataset_sample_png(self, dataset: UUID, sample_id: str) -> bytes:
        return self._ask("GET", f"/datasets/{dataset}/samples/{sample_id}.png").content

    def dataset_rejections(
        self, dataset: UUID, *, code: RejectionCode | None = None
    ) -> Iterator[Rejection]:
        return self._all(Rejection, f"/datasets/{dataset}/rejections", code=code)

    def dataset_duplicates(self, dataset: UUID) -> Iterator[Duplicate]:
        return self._all(Duplicate, f"/datasets/{dataset}/duplicates")

    def dataset_manifest(self, dataset: UUID) -> pa.Table:
        """The manifest table (`api_schemas.manifest.MANIFEST`)."""
        return from_parquet(self._ask("GET", f"/datasets/{dataset}/manifest").content, MANIFEST)

    def dataset_paper_file(
        self, dataset: UUID, name: PaperFile, *, blank: BlankLabels | None = None
    ) -> str:
        """One of the paper's own files, as CSV; of a cohort, `paper_file(cohort_manifest(...))`."""
        params = {} if blank is None else {"blank": blank}
        return self._ask("GET", f"/datasets/{dataset}/paper/{name}", params=params).text

    def dataset_deletion(self, dataset: UUID) -> DeletionView:
        """What deleting it would take, or how far its deletion is."""
        return self._get(DeletionView, f"/datasets/{dataset}/deletion")

    def delete_dataset(self, dataset: UUID, *, derived: bool = False) -> DeletionView:
        """Delete it; with `derived` also everything made from it."""
        return self._delete(f"/datasets/{dataset}", derived=derived)

    def cancel_dataset(self, dataset: UUID) -> DatasetView:
        return self._post(DatasetView, f"/datasets/{dataset}/cancel")

    def dataset_events(self, dataset: UUID) -> Iterator[JobEvent]:
        return self._events(f"/datasets/{dataset}/events")

    def post_withdrawal(
        self, request: WithdrawalRequest, *, idempotency_key: str | None = None
    ) -> WithdrawalView:
        return self._post(WithdrawalView, "/withdrawals", request, idempotency_key)

    def list_withdrawals(self) -> Iterator[WithdrawalView]:
        return self._all(WithdrawalView, "/withdrawals")

    def get_withdrawal(self, withdrawal: UUID) -> WithdrawalView:
        return self._get(WithdrawalView, f"/withdrawals/{withdrawal}")

    def post_upload(self, content: bytes | Iterable[bytes]) -> UploadView:
        """Send an archive: its bytes, or its blocks one after the other."""
        headers = {"Content-Type": "application/octet-stream"}
        answer = self._ask("POST", "/uploads", content=content, headers=headers)
        return UploadView.model_validate_json(answer.content)

    def delete_upload(self, upload: UUID) -> None:
        self._ask("DELETE", f"/uploads/{upload}")
