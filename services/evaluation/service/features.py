"""Features that labs extract themselves: taken, kept, and found again for a measurement."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
import polars as pl
from sqlalchemy import select
from sqlalchemy.orm import Session

from api_schemas.base import DataRef, DataSplit, Page
from api_schemas.features import FeaturesRequest, FeaturesView
from api_schemas.qualities import GivenFeatures
from services.evaluation import models
from services.evaluation.importers.faults import Faulty
from services.evaluation.importers.vectors import Vectors, read_vectors
from services.evaluation.service.blaming import blaming
from services.evaluation.service.intake import QUEUE
from services.evaluation.service.keeping import FEATURES, features_folder
from services.evaluation.service.problems import (
    FeaturesDamaged,
    FeaturesLacking,
    FeaturesUnknown,
    FeaturesUnusable,
)
from services.evaluation.service.stock import Stock, ids, ref_of
from services.evaluation.statistics.cases import Floats
from services.evaluation.views import features_view
from services.kit.auth import Caller
from services.kit.db import Database, new_id
from services.kit.errors import ProblemError
from services.kit.http import earlier, once, page
from services.kit.jobs import lineage
from services.kit.jobs.lineage import Made
from services.kit.objects import DigestMismatch, ObjectMissing, ObjectStore, sha256
from services.kit.uploads import FILE

FILE_LIMIT = 512 * 2**20


class FeatureTables:
    """The feature tables of a caller's project."""

    def __init__(self, db: Database, store: ObjectStore, stock: Stock) -> None:
        self._db = db
        self._store = store
        self._stock = stock

    def take(
        self, caller: Caller, request: FeaturesRequest, file: Path, key: str | None
    ) -> FeaturesView:
        """Keep what an extractor gave. Raises `FeaturesUnusable` (422) naming the line."""
        with self._db.transaction() as tx:
            made = earlier(tx, caller, key, request)
        return self.table(caller, made or self._take(caller, request, file, key))

    def table(self, caller: Caller, table: UUID) -> FeaturesView:
        with self._db.transaction() as tx:
            return features_view(find(tx.session, caller, table, None))

    def browse(self, caller: Caller, cursor: str | None, limit: int) -> Page[FeaturesView]:
        """The project's feature tables, newest first."""
        row = models.FeatureTable
        with self._db.transaction() as tx:
            mine = select(row).where(row.project == caller.project, lineage.visible(row.id))

            def views(rows: Sequence[models.FeatureTable]) -> list[FeaturesView]:
                return [features_view(each) for each in rows]

            return page(tx.session, mine, row.id, cursor, limit, views, newest_first=True)

    def _take(self, caller: Caller, request: FeaturesRequest, file: Path, key: str | None) -> UUID:
        ref = ref_of(request.data)
        item = self._stock.look(caller, ref, "data")
        rows = self._stock.rows(caller, DataSplit(data=ref), "data")
        with blaming(FILE, FeaturesUnusable):
            vectors = read_vectors(file)
            _check_known(vectors, rows)
        content = _parquet(vectors)
        digest, table = sha256(content), new_id()
        place = f"{features_folder(caller.project, table)}features-{digest[:16]}.parquet"
        row = models.FeatureTable(
            id=table,
            project=caller.project,
            owner=caller.person,
            request=request.model_dump(mode="json"),
            manifest=item.digest,
            images=len(vectors.samples),
            dimension=vectors.values.shape[1],
            key=place,
            sha256=digest,
        )
        self._store.put(place, content)

        def note() -> UUID:
            tx.session.add(row)
            made = Made("evaluation", QUEUE, FEATURES, table, request.name)
            lineage.note(tx, caller, made, ids(data=ref))
            tx.session.flush()
            return table

        try:
            with self._db.transaction() as tx:
                made = once(tx, caller, key, request, note)
        except ProblemError:
            self._store.remove([place])
            raise
        if made != table:  # somebody sent the same with the same key at the same time
            self._store.remove([place])
        return made


@dataclass(frozen=True)
class Given:
    """The space of a pair of tables."""

    name: str
    version: str
    dimension: int
    about: str


class GivenTables:
    """The tables that a measurement names."""

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store

    def check(
        self, caller: Caller, pair: GivenFeatures, field: str, data: Sequence[DataRef]
    ) -> None:
        """Both tables must be of one extractor and of this data, in this order. Raises
        `FeaturesUnknown` (404) and `FeaturesUnusable` (422).
        """
        ours, theirs = self._rows(caller, pair, field)
        for what in ("name", "version"):
            if ours.request[what] != theirs.request[what]:
                raise FeaturesUnusable(
                    f"Their {what} differs", field=f"{field}.reference", accepted=ours.request[what]
                )
        if ours.dimension != theirs.dimension:
            raise FeaturesUnusable(
                f"They have {theirs.dimension} numbers an image, those of the cohort"
                f" {ours.dimension}",
                field=f"{field}.reference",
                accepted=ours.dimension,
            )
        for name, row, ref in zip(("cohort", "reference"), (ours, theirs), data, strict=True):
            if ref_of(row.request["data"]) != ref:
                raise FeaturesUnusable("They are of other data", field=f"{field}.{name}")

    def read(
        self, caller: Caller, pair: GivenFeatures, field: str, frames: Sequence[pl.DataFrame]
    ) -> tuple[Given, list[Floats]]:
        """The space, and the vectors of both sets' rows in their order. Raises `FeaturesLacking`
        (422) naming the samples without.
        """
        rows = self._rows(caller, pair, field)
        told = rows[0].request
        space = Given(
            told["name"],
            told["version"],
            rows[0].dimension,
            "given by whoever asked; what it sees is its extractor's matter",
        )
        found = [
            self._vectors(row, frame["sample_id"], f"{field}.{name}")
            for name, row, frame in zip(("cohort", "reference"), rows, frames, strict=True)
        ]
        return space, found

    def _rows(
        self, caller: Caller, pair: GivenFeatures, field: str
    ) -> tuple[models.FeatureTable, models.FeatureTable]:
        with self._db.transaction() as tx:
            return (
                find(tx.session, caller, pair.cohort, f"{field}.cohort"),
                find(tx.session, caller, pair.reference, f"{field}.reference"),
            )

    def _vectors(self, row: models.FeatureTable, samples: pl.Series, field: str) -> Floats:
        try:
            table = pl.read_parquet(io.BytesIO(self._store.get(row.key, row.sha256)))
        except (ObjectMissing, DigestMismatch) as error:
            raise FeaturesDamaged("Send them again", field=field) from error
        place = {sample: n for n, sample in enumerate(table["sample_id"])}
        lacking = [sample for sample in samples if sample not in place]
        if lacking:
            raise FeaturesLacking(
                f"{len(lacking)} of {len(samples)} images have none, among them"
                f" {', '.join(lacking[:5])}",
                field=field,
            )
        rows = [place[sample] for sample in samples]
        return table["vector"].to_numpy()[rows].astype(np.float64)


def _check_known(vectors: Vectors, rows: pl.DataFrame) -> None:
    known = set(rows["sample_id"])
    strange = [n for n, sample in enumerate(vectors.samples, 1) if sample not in known]
    if strange:
        raise Faulty(
            f"{len(strange)} of {len(vectors.samples)} samples are not of the data", line=strange[0]
        )


def _parquet(vectors: Vectors) -> bytes:
    shape = pl.Array(pl.Float32, vectors.values.shape[1])
    sink = io.BytesIO()
    pl.DataFrame(
        {"sample_id": vectors.samples, "vector": pl.Series(vectors.values, dtype=shape)}
    ).write_parquet(sink)
    return sink.getvalue()


def find(session: Session, caller: Caller, table: UUID, field: str | None) -> models.FeatureTable:
    """Raises `FeaturesUnknown` (404)."""
    mine = select(models.FeatureTable).filter_by(id=table, project=caller.project)
    row = session.scalars(mine.where(lineage.visible(models.FeatureTable.id))).one_or_none()
    if row is None:
        raise FeaturesUnknown("There is no such feature table here", field=field)
    return row
