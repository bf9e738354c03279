"""CheXpert-style CSV: one row an image, the columns of the CheXpert tables.

Only `Path` is required, and something that names the patient; a missing column is blank in every
row. Columns are found however they are written, also by their usual synonyms (`columns`); those
that are not read are told. A column `Split` (train, validation, test) or else `Fold` (0 is
validation, every other fold train) brings the source's own split; where neither says anything,
patients are split by a stable hash. A patient keeps the first split its rows state; a later row
that states another is rejected.
"""

from collections.abc import Iterator

from api_schemas.findings import FINDINGS
from api_schemas.imports import CsvImport
from services.datasets.importers.columns import COLUMNS, SYNONYMS, unread_labels
from services.datasets.importers.fields import PATH, UnusableValues, entry, quoted
from services.datasets.importers.files import Roots
from services.datasets.importers.patients import LOOKED_AT, PatientNames
from services.datasets.importers.source import Entry, LabelsUnread
from services.datasets.importers.tables import Row, Table


class ChexpertCsv:
    """The layout of one table of this kind."""

    def __init__(self, request: CsvImport, roots: Roots, table: str, field: str) -> None:
        """`table` is the place of the table, `field` the input that named it."""
        path = roots.file(table, field=field)
        self.images = path.parent
        if request.image_root is not None:
            self.images = roots.folder(request.image_root, field="image_root")
        self.unusable = UnusableValues()
        self._laterals = request.laterals
        self._table = Table(path, [PATH], optional=COLUMNS, synonyms=SYNONYMS, blame=field)
        self._patients = PatientNames(request.patients)
        head = self._table.head(LOOKED_AT)
        self._patients.require(self._table.columns, head)
        self._require_labels(head)

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        self._patients.clear()
        return self._table.rows()

    def entry(self, line: int, row: Row) -> Entry:
        sample = entry(line, row, self.unusable, laterals=self._laterals)
        self._patients.check(row)
        return sample

    def remarks(self) -> list[str]:
        told = [*self._table.remarks(), *self._table.column_remarks(), *self._patients.remarks()]
        if self._labelless:
            told.append("the table has no column of a finding: every label is blank")
        return told

    # ------------------------------------------------------------ inside

    @property
    def _labelless(self) -> bool:
        return not any(finding in self._table.columns for finding in FINDINGS)

    def _require_labels(self, head: list[Row]) -> None:
        unread = unread_labels(self._table.unread, head) if self._labelless else []
        if unread:
            raise LabelsUnread(
                "No column is one of the findings that are read, but these look as if they held "
                f"labels: {', '.join(map(quoted, unread[:10]))}. Rename or drop them, or say by a "
                "mapping (mapped_csv) what they mean",
                accepted=list(FINDINGS),
            )
