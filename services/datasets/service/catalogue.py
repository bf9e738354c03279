"""What people and other services do with datasets."""

from collections.abc import Sequence
from uuid import UUID

import polars as pl
import pyarrow as pa
from pydantic import TypeAdapter
from sqlalchemy import delete, select

from api_schemas.base import Page
from api_schemas.datasets import (
    DatasetView,
    Duplicate,
    Rejection,
    RejectionCode,
    Sample,
    SampleQuery,
    SheetQuery,
    Summary,
)
from api_schemas.imports import DatasetRequest, FileImport
from api_schemas.lookups import LookupRequest, LookupView
from api_schemas.manifest import MANIFEST, from_parquet
from api_schemas.paper import BlankLabels, NothingToList, PaperFile, paper_file
from api_schemas.terms import Licence
from services.datasets import models
from services.datasets.importers import Roots, open_source
from services.datasets.importers.source import SourceUnusable
from services.datasets.importers.spellings import places
from services.datasets.service.ingest import INGEST, QUEUE, UNIT
from services.datasets.service.keeping import KIND
from services.datasets.service.keys import folder
from services.datasets.service.manifests import Manifests
from services.datasets.service.paging import samples_page
from services.datasets.service.problems import (
    BlankWithoutLabels,
    LicenceOfView,
    NotTheOwner,
    PaperFileEmpty,
    SampleUnknown,
    SeveralTables,
    as_problem,
)
from services.datasets.service.samples import by_line, present
from services.datasets.service.showing import contact_sheet
from services.datasets.service.standing import find, mine, newest, ready, rejected, roots
from services.datasets.service.uploads import Uploads
from services.datasets.statistics.summary import summary
from services.datasets.views import dataset_view, duplicate_view, rejection_view
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.http import earlier, once, page
from services.kit.jobs import Jobs, NewJob, lineage
from services.kit.jobs.lineage import Made
from services.kit.objects import ObjectStore
from services.kit.pseudonyms import Pseudonyms

_request: TypeAdapter[DatasetRequest] = TypeAdapter(DatasetRequest)


class Datasets:
    """The datasets of a caller's project; those of others do not exist.

    `dataset` and `dataset_manifest` are what other services consume.
    """

    def __init__(
        self,
        db: Database,
        jobs: Jobs,
        store: ObjectStore,
        manifests: Manifests,
        roots: Roots,
        uploads: Uploads,
        pseudonyms: Pseudonyms,
    ) -> None:
        self._db = db
        self._jobs = jobs
        self._store = store
        self._manifests = manifests
        self._roots = roots
        self._uploads = uploads
        self._pseudonyms = pseudonyms

    def register(self, caller: Caller, request: DatasetRequest, key: str | None) -> DatasetView:
        """Start an import. What the request alone or the CSV's header shows is refused here."""
        with self._db.transaction() as tx:
            made = earlier(tx, caller, key, request)
        notes = self._look_at(request) if made is None and not _uploaded(request) else []
        with self._db.transaction() as tx:
            made = made or once(
                tx, caller, key, request, lambda: self._submit(tx, caller, request, notes)
            )
            return self._view(tx, find(tx.session, caller, made))

    def dataset(self, caller: Caller, dataset: UUID) -> DatasetView:
        with self._db.transaction() as tx:
            return self._view(tx, find(tx.session, caller, dataset))

    def browse(self, caller: Caller, cursor: str | None, limit: int) -> Page[DatasetView]:
        """The project's datasets, newest first."""
        with self._db.transaction() as tx:
            return page(
                tx.session,
                mine(caller),
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
        row = self._manifest(caller, dataset)
        return self._store.get(row.key, row.parquet_sha256)

    def paper_file(
        self, caller: Caller, dataset: UUID, name: PaperFile, blank: BlankLabels | None
    ) -> str:
        """One of the paper's files as CSV; raises `PaperFileEmpty`, `BlankWithoutLabels` (422)."""
        if blank is not None and name in {PaperFile.TRAIN_LIST, PaperFile.TEST_LIST}:
            raise BlankWithoutLabels(
                "The lists have no labels; leave it out",
                field="blank",
                accepted=[PaperFile.TABLE, PaperFile.SEEDED],
            )
        try:
            return paper_file(self.dataset_manifest(caller, dataset), name, blank or "0")
        except NothingToList as error:
            raise PaperFileEmpty(str(error), field="name") from error

    def summary(self, caller: Caller, dataset: UUID) -> Summary:
        return summary(self._manifests.scan(self._manifest(caller, dataset)))

    def samples(self, caller: Caller, dataset: UUID, query: SampleQuery) -> Page[Sample]:
        """The samples that meet the query's filter, in the manifest's order.

        A cursor holds for one version of the manifest: after a withdrawal begin again.
        """
        manifest = self._manifest(caller, dataset)
        return samples_page(self._manifests.scan(manifest), manifest.id, query)

    def look_up(self, caller: Caller, dataset: UUID, request: LookupRequest) -> LookupView:
        """Which samples the caller's own images are. What is asked is hashed and forgotten."""
        with self._db.transaction() as tx:
            row = find(tx.session, caller, dataset)
            manifest = ready(tx.session, row)
            owners = roots(tx.session, [row])[row.id]
            if request.rows is None:
                asked = self._by_path(owners, request.paths or [])
            elif len(owners) > 1:
                raise SeveralTables(
                    "It joins several imports, each with lines of its own; look rows up there, or "
                    "give paths",
                    field="rows",
                    accepted=[str(each.id) for each in owners],
                )
            else:
                asked = by_line(tx.session, owners[0].id, request.rows)
        here = present(self._manifests.scan(manifest), {name for part in asked for name in part})
        found = [[name for name in part if name in here] for part in asked]
        samples = [part[0] if len(part) == 1 else None for part in found]
        return LookupView(samples=samples, missing=samples.count(None))

    def _by_path(self, owners: Sequence[models.Dataset], paths: Sequence[str]) -> list[list[str]]:
        """The sample ids that each path may have."""
        requests = [_request.validate_python(each.request) for each in owners]
        return [
            list(
                dict.fromkeys(
                    self._pseudonyms.sample(str(request.site), place)
                    for request in requests
                    for place in places(request, self._roots, path)
                )
            )
            for path in paths
        ]

    def png(self, caller: Caller, dataset: UUID, sample_id: str) -> bytes:
        """A prepared image, verified; raises `SampleUnknown` (404)."""
        table = self._manifests.scan(self._manifest(caller, dataset))
        columns = ("image_key", "image_sha256")
        found = table.filter(pl.col("sample_id") == sample_id).select(columns).collect().rows()
        if not found or found[0][0] is None:
            raise SampleUnknown("This dataset has no such sample, or not its image")
        return self._store.get(*found[0])

    def sheet(self, caller: Caller, dataset: UUID, query: SheetQuery) -> bytes:
        """A contact sheet (PNG) for the dataset's owner; raises `NotTheOwner` (403)."""
        with self._db.transaction() as tx:
            row = find(tx.session, caller, dataset)
            if row.owner != caller.person:
                raise NotTheOwner("Only who registered a dataset gets sheets of its images")
            manifest = ready(tx.session, row)
        return contact_sheet(self._store, self._manifests.scan(manifest), query, row.name)

    def state_licence(self, caller: Caller, dataset: UUID, licence: Licence) -> DatasetView:
        """State the terms of an import (and so of its views) anew; a view has none of its own."""
        with self._db.transaction() as tx:
            row = find(tx.session, caller, dataset, lock=True)
            if row.root is not None:
                raise LicenceOfView(
                    "State them for the dataset it was made of", accepted=str(row.root)
                )
            row.licence = licence.model_dump(mode="json")
            return self._view(tx, row)

    def rejections(
        self,
        caller: Caller,
        dataset: UUID,
        code: RejectionCode | None,
        cursor: str | None,
        limit: int,
    ) -> Page[Rejection]:
        """The rows that could not be used, by line; grows while the import runs."""
        wanted = select(models.Rejection).where(models.Rejection.dataset == dataset)
        if code is not None:
            wanted = wanted.where(models.Rejection.code == code)
        with self._db.transaction() as tx:
            find(tx.session, caller, dataset)
            return page(
                tx.session,
                wanted,
                models.Rejection.line,
                cursor,
                limit,
                lambda rows: [rejection_view(r) for r in rows],
            )

    def duplicates(
        self, caller: Caller, dataset: UUID, cursor: str | None, limit: int
    ) -> Page[Duplicate]:
        """Pairs of samples with the same picture, or nearly."""
        with self._db.transaction() as tx:
            ready(tx.session, find(tx.session, caller, dataset))
            return page(
                tx.session,
                select(models.Duplicate).where(models.Duplicate.dataset == dataset),
                models.Duplicate.number,
                cursor,
                limit,
                lambda rows: [duplicate_view(r) for r in rows],
            )

    def cancel(self, caller: Caller, dataset: UUID) -> DatasetView:
        """Stop the import and drop what it has stored; cancelled already is fine."""
        with self._db.transaction() as tx:
            row = find(tx.session, caller, dataset)
            self._jobs.cancel(tx, row.job)
            tx.session.execute(delete(models.Sample).where(models.Sample.dataset == dataset))
            tx.after_commit(lambda: self._store.remove_prefix(folder(row.project, dataset)))
            return self._view(tx, row)

    def job(self, caller: Caller, dataset: UUID) -> UUID:
        """The import job of a dataset of the caller's."""
        with self._db.transaction() as tx:
            return find(tx.session, caller, dataset).job

    # ------------------------------------------------------------ inside

    def _submit(self, tx: Tx, caller: Caller, request: DatasetRequest, notes: list[str]) -> UUID:
        if isinstance(request, FileImport) and request.upload is not None:
            self._uploads.require(tx.session, caller.project, request.upload)
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
                notes=notes,
            )
        )
        tx.session.flush()
        return dataset

    def _manifest(self, caller: Caller, dataset: UUID) -> models.Manifest:
        with self._db.transaction() as tx:
            return ready(tx.session, find(tx.session, caller, dataset))

    def _look_at(self, request: DatasetRequest) -> list[str]:
        """What the headers of the tables alone tell about how they will be read."""
        try:
            return open_source(request, self._roots).remarks()
        except SourceUnusable as error:
            raise as_problem(error) from error

    def _view(self, tx: Tx, row: models.Dataset) -> DatasetView:
        return self._views(tx, [row])[0]

    def _views(self, tx: Tx, rows: Sequence[models.Dataset]) -> list[DatasetView]:
        ids = [row.id for row in rows]
        jobs = self._jobs.views(tx, [row.job for row in rows])
        manifests, lost = newest(tx.session, ids), rejected(tx.session, ids)
        owners = roots(tx.session, rows)
        return [
            dataset_view(
                row, owners[row.id], jobs[row.job], manifests.get(row.id), lost.get(row.id, 0)
            )
            for row in rows
        ]


def _uploaded(request: DatasetRequest) -> bool:
    return isinstance(request, FileImport) and request.upload is not None
