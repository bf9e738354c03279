"""Datasets and cohorts on their way out: ordered, verified by a worker, downloaded as a stream.

An export holds no copy of an image: what is downloaded is read from where it lies, so that a
withdrawn patient's images are in no archive that is kept here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args
from uuid import UUID

import polars as pl
from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.base import GenerationRef, JobState, Page
from api_schemas.datasets import DatasetKind
from api_schemas.exports import ExportFormat, ExportRequest, ExportView
from services.evaluation import models
from services.evaluation.service.intake import QUEUE
from services.evaluation.service.keeping import EXPORT
from services.evaluation.service.packing import Packing, file_names, files
from services.evaluation.service.problems import (
    DataChanged,
    ExportForbidden,
    ExportNotReady,
    ExportUnknown,
    SetEmpty,
    SetMixed,
)
from services.evaluation.service.stock import Item, Stock, ids
from services.evaluation.views import export_request, export_view
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.http import earlier, once, page
from services.kit.jobs import Jobs, Lease, NewJob, lineage, step_of
from services.kit.jobs.lineage import Made

UNIT = "images"
VERIFIED_AT_ONCE = 5000
"""Images of one slice."""
FIELD = "set"
WITH_IMAGES = frozenset({"png_csv", "webdataset"})


@dataclass(frozen=True)
class Download:
    media_type: str
    name: str
    content: Iterator[bytes]


class Exports:
    """The exports of a caller's project."""

    def __init__(self, db: Database, jobs: Jobs, stock: Stock) -> None:
        self._db = db
        self._jobs = jobs
        self._stock = stock

    def order(self, caller: Caller, request: ExportRequest, key: str | None) -> ExportView:
        """Raises `ExportForbidden` (403) where the terms of the data forbid it."""
        with self._db.transaction() as tx:
            made = earlier(tx, caller, key, request)
        return self.export(caller, made or self._order(caller, request, key))

    def export(self, caller: Caller, export: UUID) -> ExportView:
        with self._db.transaction() as tx:
            return self._views(tx, [_find(tx.session, caller, export)])[0]

    def browse(self, caller: Caller, cursor: str | None, limit: int) -> Page[ExportView]:
        """The project's exports, newest first."""
        with self._db.transaction() as tx:
            mine = select(models.Export).where(
                models.Export.project == caller.project, lineage.visible(models.Export.id)
            )
            return page(
                tx.session,
                mine,
                models.Export.id,
                cursor,
                limit,
                lambda rows: self._views(tx, list(rows)),
                newest_first=True,
            )

    def file(self, caller: Caller, export: UUID, name: str) -> Download:
        """One file as a stream. Raises `ExportNotReady`, `DataChanged` (409), `ExportForbidden`
        (403, the terms may have changed) and `ExportUnknown` (404).
        """
        with self._db.transaction() as tx:
            row = _find(tx.session, caller, export)
            state = self._jobs.view(tx, row.job).state
        if state is not JobState.SUCCEEDED:
            raise ExportNotReady(f"Its job is {state}")
        request = export_request(row)
        names = file_names(request, row.images)
        if name not in names:
            raise ExportUnknown("The export has no such file", accepted=list(names))
        item, rows = verified(self._stock, caller, row)
        packing = Packing(self._stock, item, request, rows, row.created_at)
        return Download(names[name].media_type, name, packing.content(name))

    def _order(self, caller: Caller, request: ExportRequest, key: str | None) -> UUID:
        item = self._stock.look(caller, request.set.data, FIELD)
        allow(item)
        with_images = request.format in WITH_IMAGES
        read = self._stock.rows_with_images if with_images else self._stock.rows
        images = exported(request, item, read(caller, request.set, FIELD)).height
        with self._db.transaction() as tx:
            return once(
                tx, caller, key, request, lambda: self._submit(tx, caller, request, item, images)
            )

    def _submit(
        self, tx: Tx, caller: Caller, request: ExportRequest, item: Item, images: int
    ) -> UUID:
        row = models.Export(
            id=new_id(),
            project=caller.project,
            owner=caller.person,
            job=new_id(),
            request=request.model_dump(mode="json"),
            name=item.name,
            manifest=item.manifest,
            digest=item.digest,
            licence=item.licence.model_dump(mode="json"),
            images=images,
        )
        tx.session.add(row)
        made = Made("evaluation", QUEUE, EXPORT, row.id, row.name)
        lineage.note(tx, caller, made, ids(**{FIELD: request.set.data}))
        with_images = request.format in WITH_IMAGES
        starts = range(0, images, VERIFIED_AT_ONCE) if with_images else [images]
        self._jobs.submit(
            tx,
            NewJob(
                id=row.job,
                service="evaluation",
                kind=EXPORT,
                queue=QUEUE,
                caller=caller,
                resource=row.id,
                inputs=row.request,
                slices=[{"first": first} for first in starts],
                total=images,
                unit=UNIT,
            ),
        )
        tx.session.flush()
        return row.id

    def _views(self, tx: Tx, rows: list[models.Export]) -> list[ExportView]:
        jobs = self._jobs.views(tx, [row.job for row in rows])
        return [
            export_view(
                row,
                jobs[row.job],
                files(export_request(row), row.images, f"/exports/{row.id}/files"),
            )
            for row in rows
        ]


class Verify:
    """Handler of an export's slices: every image is there and is what the manifest says."""

    def __init__(self, db: Database, stock: Stock) -> None:
        self._db = db
        self._stock = stock

    def __call__(self, lease: Lease) -> None:
        step_of(lease)
        with self._db.transaction() as tx:
            row = tx.session.get_one(models.Export, lease.resource)
        first = int(lease.payload["first"])
        _, rows = verified(self._stock, lease.caller, row)
        read = first
        for pngs in self._stock.images(rows.slice(first, VERIFIED_AT_ONCE)):
            lease.stop_now()
            read += len(pngs)
            lease.progress(read, row.images, UNIT)
        with lease.finishing():
            pass


def allow(item: Item) -> None:
    """Raises `ExportForbidden` where the terms forbid; what nobody has said is not forbidden."""
    licence = item.licence
    cohort = isinstance(item.ref, GenerationRef)
    said = licence.may_share_derived if cohort else licence.may_export
    if said is False:
        what = "sharing what was made of the data" if cohort else "exporting its images"
        raise ExportForbidden(
            f"'{licence.name or 'The licence'}' does not allow {what}. {licence.notes}".strip(),
            field=f"{FIELD}.data",
        )


def exported(request: ExportRequest, item: Item, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that are exported: in the paper's form those that train or validate.

    Raises `SetMixed` and `SetEmpty` (422): the paper has a table of real images and one of
    synthetic ones, and none of both, and its script trains on every row that does not validate.
    """
    if request.format != "seeded_csv":
        return rows
    if item.kind is DatasetKind.MIXED:
        raise SetMixed(
            "The paper has one table for real and one for synthetic images: ask for "
            "/datasets/{id}/paper/sample_train_data.csv and sample_seeded_data.csv",
            field="format",
            accepted=[each for each in get_args(ExportFormat) if each != "seeded_csv"],
        )
    kept = rows.filter(pl.col("split") != "test")
    if not kept.height:
        raise SetEmpty(
            "All of it is split 'test', of which the paper's CSV has no row", field=FIELD
        )
    return kept


def verified(stock: Stock, caller: Caller, row: models.Export) -> tuple[Item, pl.DataFrame]:
    """The data and its rows, if it still is what was to be exported."""
    request = export_request(row)
    item = stock.look(caller, request.set.data, FIELD)
    allow(item)
    if item.manifest != row.manifest:
        raise DataChanged(
            "Images have been withdrawn or withheld since; export it again", field=f"{FIELD}.data"
        )
    return item, exported(request, item, stock.rows(caller, request.set, FIELD))


def _find(session: Session, caller: Caller, export: UUID) -> models.Export:
    mine = select(models.Export).filter_by(id=export, project=caller.project)
    row = session.scalars(mine.where(lineage.visible(models.Export.id))).one_or_none()
    if row is None:
        raise ExportUnknown("There is no such export here")
    return row
