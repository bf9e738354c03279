"""How two sets differ: asked and answered at once, from their manifests and from what a worker has
found in their images.
"""

import polars as pl
from sqlalchemy import select

from api_schemas.base import DataSplit
from api_schemas.overlaps import Overlap
from api_schemas.shifts import Apart, ComparedSet, Shift, ShiftQuery
from services.evaluation import models
from services.evaluation.service.stock import Stock, ref_of
from services.evaluation.statistics.shift import COLUMNS, shared_patients, shift
from services.kit.auth import Caller
from services.kit.db import Database
from services.kit.jobs import lineage


class Shifts:
    def __init__(self, db: Database, stock: Stock) -> None:
        self._db = db
        self._stock = stock

    def compare(self, caller: Caller, query: ShiftQuery) -> Shift:
        first = DataSplit(data=ref_of(query.first), split=query.first_split)
        second = DataSplit(data=ref_of(query.second), split=query.second_split)
        a, rows = self._set(caller, first, "first")
        b, others = self._set(caller, second, "second")
        return Shift(
            first=a,
            second=b,
            shared_patients=shared_patients(rows, others),
            apart=self._apart(caller, a, b),
            rows=shift(rows, others),
        )

    def _apart(self, caller: Caller, first: ComparedSet, second: ComparedSet) -> Apart | None:
        """What the newest overlap found in the images of these versions."""
        row = models.Overlap
        asked = {
            "first": first.set.model_dump(mode="json"),
            "second": second.set.model_dump(mode="json"),
            "trivial": True,
        }
        with self._db.transaction() as tx:
            of_both = select(row.result).where(
                row.project == caller.project,
                row.request.contains(asked),
                row.result.is_not(None),
                lineage.visible(row.id),
            )
            results = tx.session.scalars(of_both.order_by(row.id.desc())).all()
        found = (Overlap.model_validate(each) for each in results)
        now = (first.manifest, second.manifest)
        return next((each.apart for each in found if each.manifests == now), None)

    def _set(
        self, caller: Caller, wanted: DataSplit, field: str
    ) -> tuple[ComparedSet, pl.DataFrame]:
        item = self._stock.look(caller, wanted.data, field)
        rows = self._stock.rows(caller, wanted, field).select(COLUMNS)
        return item.compared(wanted, rows), rows
