"""What two sets share: ordered by people, found by a worker."""

from collections.abc import Sequence
from uuid import UUID

import polars as pl
from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.base import DataSplit, Page
from api_schemas.overlaps import Overlap, OverlapRequest, OverlapView, SharedPair
from services.evaluation import models
from services.evaluation.service.baselines import tell_apart
from services.evaluation.service.intake import QUEUE
from services.evaluation.service.keeping import OVERLAP
from services.evaluation.service.near import NearSearch
from services.evaluation.service.problems import OverlapUnknown, TooManyToCompare
from services.evaluation.service.stock import Awaited, Item, Stock, ids
from services.evaluation.views import overlap_view
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.http import earlier, once, page
from services.kit.jobs import Jobs, Lease, NewJob, lineage, step_of
from services.kit.jobs.lineage import Made

UNIT = "images"
PAIRS = 1000
NEAR_LIMIT = 20_000
"""Images of either set in a search for near-identical ones."""


class Overlaps:
    """The overlaps of a caller's project."""

    def __init__(self, db: Database, jobs: Jobs, stock: Stock) -> None:
        self._db = db
        self._jobs = jobs
        self._stock = stock

    def order(self, caller: Caller, request: OverlapRequest, key: str | None) -> OverlapView:
        """Waits for a set in the making; raises `TooManyToCompare` (422) where `near` is asked of
        more than `NEAR_LIMIT` images.
        """
        with self._db.transaction() as tx:
            made = earlier(tx, caller, key, request)
        waits = [] if made is not None else self._check(caller, request)
        with self._db.transaction() as tx:
            made = made or once(
                tx, caller, key, request, lambda: self._submit(tx, caller, request, waits)
            )
            return self._view(tx, _find(tx.session, caller, made))

    def overlap(self, caller: Caller, overlap: UUID) -> OverlapView:
        with self._db.transaction() as tx:
            return self._view(tx, _find(tx.session, caller, overlap))

    def browse(self, caller: Caller, cursor: str | None, limit: int) -> Page[OverlapView]:
        """The project's overlaps, newest first."""
        with self._db.transaction() as tx:
            mine = select(models.Overlap).where(
                models.Overlap.project == caller.project, lineage.visible(models.Overlap.id)
            )
            return page(
                tx.session,
                mine,
                models.Overlap.id,
                cursor,
                limit,
                lambda rows: self._views(tx, rows),
                newest_first=True,
            )

    def _check(self, caller: Caller, request: OverlapRequest) -> list[UUID]:
        """The jobs to wait for; raises what can be known to be wrong by now."""
        waits: list[UUID] = []
        for field, each in (("first", request.first), ("second", request.second)):
            found = self._stock.look_ahead(caller, each.data, field)
            if isinstance(found, Awaited):
                waits.append(found.job.id)
            else:
                compared_rows(self._stock, caller, each, field, request)
        return waits

    def _submit(self, tx: Tx, caller: Caller, request: OverlapRequest, waits: list[UUID]) -> UUID:
        row = models.Overlap(
            id=new_id(),
            project=caller.project,
            owner=caller.person,
            job=new_id(),
            request=request.model_dump(mode="json"),
        )
        tx.session.add(row)
        uses = ids(first=request.first.data, second=request.second.data)
        lineage.note(tx, caller, Made("evaluation", QUEUE, OVERLAP, row.id), uses)
        self._jobs.submit(
            tx,
            NewJob(
                id=row.job,
                service="evaluation",
                kind=OVERLAP,
                queue=QUEUE,
                caller=caller,
                resource=row.id,
                inputs=row.request,
                slices=[{"step": OVERLAP}],
                waits_for=waits,
                unit=UNIT,
            ),
        )
        tx.session.flush()
        return row.id

    def _view(self, tx: Tx, row: models.Overlap) -> OverlapView:
        return self._views(tx, [row])[0]

    def _views(self, tx: Tx, rows: Sequence[models.Overlap]) -> list[OverlapView]:
        jobs = self._jobs.views(tx, [row.job for row in rows])
        return [overlap_view(row, jobs[row.job]) for row in rows]


class FindOverlap:
    """Handler of an overlap's slice."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock

    def __call__(self, lease: Lease) -> None:
        step_of(lease, OVERLAP)
        request = OverlapRequest.model_validate(lease.inputs)
        items = (
            self._stock.look(lease.caller, request.first.data, "first"),
            self._stock.look(lease.caller, request.second.data, "second"),
        )
        first, second = (
            compared_rows(self._stock, lease.caller, each, field, request)
            for field, each in (("first", request.first), ("second", request.second))
        )
        result = exact(items, first, second)
        if request.near:
            near, pairs = NearSearch(self._stock, lease).search(first, second)
            room = PAIRS - len(result.pairs)
            told = {"near": near, "pairs": [*result.pairs, *pairs[:room]]}
            result = result.model_copy(update=told)
        if request.trivial:
            told = {"apart": tell_apart(self._stock, lease, first, second)}
            result = result.model_copy(update=told)
        with lease.finishing() as tx:
            row = tx.session.get_one(models.Overlap, lease.resource)
            row.result = result.model_dump(mode="json")


def compared_rows(
    stock: Stock, caller: Caller, wanted: DataSplit, field: str, request: OverlapRequest
) -> pl.DataFrame:
    """The rows of a set; raises `TooManyToCompare` (422) where too many are to be compared by how
    they look.
    """
    if not request.near and not request.trivial:
        return stock.rows(caller, wanted, field)
    rows = stock.rows_with_images(caller, wanted, field)
    if request.near and rows.height > NEAR_LIMIT:
        raise TooManyToCompare(
            f"It has {rows.height} images; compare a view of it, or leave out near",
            field=field,
            accepted=NEAR_LIMIT,
        )
    return rows


def exact(items: tuple[Item, Item], first: pl.DataFrame, second: pl.DataFrame) -> Overlap:
    """Patients and pictures of both sets, by pseudonym and by the digest of the pixels."""
    columns = ("sample_id", "patient_id", "pixel_sha256")
    same = first.select(columns).join(
        second.select(columns), on="pixel_sha256", suffix="_second", maintain_order="left"
    )
    patients = first.select(pl.col("patient_id").unique())
    return Overlap(
        manifests=(items[0].digest, items[1].digest),
        images=(first.height, second.height),
        patients=(first["patient_id"].n_unique(), second["patient_id"].n_unique()),
        shared_patients=patients.join(second, on="patient_id", how="semi").height,
        shared_pictures=same["pixel_sha256"].n_unique(),
        pairs=[
            SharedPair(
                first=row["sample_id"],
                second=row["sample_id_second"],
                kind="pixels",
                likeness=1.0,
                same_patient=row["patient_id"] == row["patient_id_second"],
            )
            for row in same.head(PAIRS).iter_rows(named=True)
        ],
    )


def _find(session: Session, caller: Caller, overlap: UUID) -> models.Overlap:
    mine = select(models.Overlap).filter_by(id=overlap, project=caller.project)
    row = session.scalars(mine.where(lineage.visible(models.Overlap.id))).one_or_none()
    if row is None:
        raise OverlapUnknown("There is no such overlap here")
    return row
