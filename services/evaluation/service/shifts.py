"""How two sets differ: asked and answered at once, from their manifests."""

import polars as pl

from api_schemas.base import DataSplit
from api_schemas.shifts import ComparedSet, Shift, ShiftQuery
from services.evaluation.service.stock import Stock, ref_of
from services.evaluation.statistics.shift import COLUMNS, shared_patients, shift
from services.kit.auth import Caller


class Shifts:
    def __init__(self, stock: Stock) -> None:
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
            rows=shift(rows, others),
        )

    def _set(
        self, caller: Caller, wanted: DataSplit, field: str
    ) -> tuple[ComparedSet, pl.DataFrame]:
        item = self._stock.look(caller, wanted.data, field)
        rows = self._stock.rows(caller, wanted, field).select(COLUMNS)
        return item.compared(wanted, rows), rows
