"""What people and other services do with datasets."""

from collections.abc import Sequence
from uuid import UUID

import pyarrow as pa
from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session

from api_schemas.base import Page
from api_schemas.datasets import DatasetRequest, DatasetView, Rejection, Sample, Summary
from api_schemas.manifest import MANIFEST, from_parquet
from services.datasets import models
from services.datasets.importers import Roots, open_source
from services.datasets.importers.source import SourceUnusable
from services.datasets.service.ingest import INGEST, QUEUE, UNIT
from services.datasets.service.keeping import KIND
from services.datasets.service.keys import folder
from services.datasets.service.problems import (
    DatasetNotReady,
    DatasetUnknown,
    SampleUnknown,
    as_problem,
)
from services.datasets.views import (
    dataset_view,
    rejection_view,
    request_of,
    sample_view,
    summary,
)
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.http import once, page
from services.kit.jobs import Jobs, NewJob, lineage
from services.kit.jobs.lineage import Made
from services.kit.objects import ObjectStore


class Datasets:
    """The datasets of a caller's project; those of others do not exist.

    `dataset` and `dataset_manifest` are what other services consume.
    """

    def __init__(self, db: Database, jobs: Jobs, store: ObjectStore, roots: Roots) -> None:
        self._db = db
        self._jobs = jobs
        self._store = store
        self._roots = roots

    def register(self, caller: Caller, request: DatasetRequest, key: str | None) -> DatasetView:
        """Start an import. What the request alone or the CSV's header shows is refused here."""
        with self._db.transaction() as tx:
            made = once(tx, caller, key, request, lambda: self._submit(tx, caller, request))
            return self._view(tx, _find(tx.session, caller, made))

    def dataset(self, caller: Caller, dataset: UUID) -> DatasetView:
        with self._db.transaction() as tx:
            return self._view(tx, _find(tx.session, caller, dataset))

    def browse(self, caller: Caller, cursor: str | None, limit: int) -> Page[DatasetView]:
        """The project's datasets, newest first."""
        with self._db.transaction() as tx:
            return page(
                tx.session,
                _mine(caller),
                models.Dataset.id,
                cursor,
                limit,
                lambda rows: self._views(tx, rows),
                newest_first=True,
            )

    def dataset_manifest(self, caller: Caller, dataset: UUID) -> pa.Table:
        """The manifest; raises `DatasetNotReady` (409) while there is none."""
        return from_parquet(self.manifest_bytes(caller, dataset), MANIFEST)

    def manifest_bytes(self, caller: Caller, dataset: UUID) -> bytes:
        """The manifest as it is stored, in Parquet."""
        with self._db.transaction() as tx:
            row = _ready(tx.session, _find(tx.session, caller, dataset))
        return self._store.get(row.key, row.parquet_sha256)

    def summary(self, caller: Caller, dataset: UUID) -> Summary:
        return summary(self.dataset_manifest(caller, dataset))

    def samples(
        self, caller: Caller, dataset: UUID, cursor: str | None, limit: int
    ) -> Page[Sample]:
        with self._db.transaction() as tx:
            row = _find(tx.session, caller, dataset)
            _ready(tx.session, row)
            site = str(request_of(row).site)
            mine = select(models.Sample).where(models.Sample.dataset == dataset)
            return page(
                tx.session,
                mine,
                models.Sample.ordinal,
                cursor,
                limit,
                lambda rows: [sample_view(r, site) for r in rows],
            )

    def png(self, caller: Caller, dataset: UUID, sample_id: str) -> bytes:
        with self._db.transaction() as tx:
            _ready(tx.session, _find(tx.session, caller, dataset))
            row = tx.session.scalars(
                select(models.Sample).filter_by(dataset=dataset, sample_id=sample_id)
            ).one_or_none()
        if row is None or row.image_key is None:
            raise SampleUnknown("This dataset has no such sample")
        return self._store.get(row.image_key, row.image_sha256)

    def rejections(
        self, caller: Caller, dataset: UUID, cursor: str | None, limit: int
    ) -> Page[Rejection]:
        """The rows that could not be used, by line; grows while the import runs."""
        with self._db.transaction() as tx:
            _find(tx.session, caller, dataset)
            return page(
                tx.session,
                select(models.Rejection).where(models.Rejection.dataset == dataset),
                models.Rejection.line,
                cursor,
                limit,
                lambda rows: [rejection_view(r) for r in rows],
            )

    def cancel(self, caller: Caller, dataset: UUID) -> DatasetView:
        """Stop the import and drop what it has stored; cancelled already is fine."""
        with self._db.transaction() as tx:
            row = _find(tx.session, caller, dataset)
            self._jobs.cancel(tx, row.job)
            tx.session.execute(delete(models.Sample).where(models.Sample.dataset == dataset))
            tx.after_commit(lambda: self._store.remove_prefix(folder(row.project, dataset)))
            return self._view(tx, row)

    def job(self, caller: Caller, dataset: UUID) -> UUID:
        """The import job of a dataset of the caller's."""
        with self._db.transaction() as tx:
            return _find(tx.session, caller, dataset).job

    # ------------------------------------------------------------ inside

    def _submit(self, tx: Tx, caller: Caller, request: DatasetRequest) -> UUID:
        try:
            open_source(request, self._roots)
        except SourceUnusable as error:
            raise as_problem(error) from error
        dataset = new_id()
        lineage.note(tx, caller, Made("datasets", QUEUE, KIND, dataset, request.name))
        inputs = request.model_dump(mode="json")
        job = self._jobs.submit(
            tx,
            NewJob(
                service="datasets",
                kind=INGEST,
                queue=QUEUE,
                caller=caller,
                resource=dataset,
                inputs=inputs,
                slices=[{"step": "plan"}],
                unit=UNIT,
            ),
        )
        tx.session.add(
            models.Dataset(
                id=dataset,
                project=caller.project,
                owner=caller.person,
                job=job,
                name=request.name,
                request=inputs,
            )
        )
        tx.session.flush()
        return dataset

    def _view(self, tx: Tx, row: models.Dataset) -> DatasetView:
        return self._views(tx, [row])[0]

    def _views(self, tx: Tx, rows: Sequence[models.Dataset]) -> list[DatasetView]:
        jobs = self._jobs.views(tx, [row.job for row in rows])
        manifests = _manifests(tx.session, [row.id for row in rows])
        rejected = _rejected(tx.session, [row.id for row in rows])
        return [
            dataset_view(row, jobs[row.job], manifests.get(row.id), rejected.get(row.id, 0))
            for row in rows
        ]


def _mine(caller: Caller) -> Select[models.Dataset]:
    there = lineage.visible(models.Dataset.id)
    return select(models.Dataset).where(models.Dataset.project == caller.project, there)


def _find(session: Session, caller: Caller, dataset: UUID) -> models.Dataset:
    row = session.scalars(_mine(caller).filter_by(id=dataset)).one_or_none()
    if row is None:
        raise DatasetUnknown("There is no such dataset")
    return row


def _ready(session: Session, row: models.Dataset) -> models.Manifest:
    manifest = _manifests(session, [row.id]).get(row.id)
    if manifest is None:
        raise DatasetNotReady("Its import has not finished, or did not succeed")
    return manifest


def _manifests(session: Session, datasets: Sequence[UUID]) -> dict[UUID, models.Manifest]:
    """The newest manifest of each."""
    rows = session.scalars(
        select(models.Manifest)
        .where(models.Manifest.dataset.in_(datasets))
        .order_by(models.Manifest.id)
    )
    return {row.dataset: row for row in rows}


def _rejected(session: Session, datasets: Sequence[UUID]) -> dict[UUID, int]:
    rows = session.execute(
        select(models.Rejection.dataset, func.count())
        .where(models.Rejection.dataset.in_(datasets))
        .group_by(models.Rejection.dataset)
    )
    return {row[0]: row[1] for row in rows}
