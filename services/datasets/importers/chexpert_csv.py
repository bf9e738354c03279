"""CheXpert-style CSV: one row an image, the columns of the CheXpert tables.

Only `Path` is required; a missing column is blank in every row. A column `Split` (train,
validation, test) or else `Fold` (0 is validation, every other fold train) brings the source's
own split; where neither says anything, patients are split by a stable hash. A patient keeps the
first split its rows state; a later row that states another is rejected.
"""

from collections.abc import Iterator

from api_schemas.imports import CsvImport
from services.datasets.importers.fields import PATH, UnusableValues, entry, names_patient
from services.datasets.importers.files import Roots
from services.datasets.importers.source import Entry
from services.datasets.importers.tables import Row, Table


class ChexpertCsv:
    """The layout of one table of this kind."""

    def __init__(self, request: CsvImport, roots: Roots) -> None:
        path = roots.file(request.path, field="path")
        self.images = path.parent
        if request.image_root is not None:
            self.images = roots.folder(request.image_root, field="image_root")
        self.unusable = UnusableValues()
        self._laterals = request.laterals
        self._table = Table(path, [PATH])
        self._nameless = 0

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        self._nameless = 0
        return self._table.rows()

    def entry(self, line: int, row: Row) -> Entry:
        sample = entry(line, row, self.unusable, laterals=self._laterals)
        self._nameless += not names_patient(row)
        return sample

    def remarks(self) -> list[str]:
        told = self._table.remarks()
        if self._nameless:
            told.append(
                "images that name no patient (neither PID nor patientNNN in Path), each counted "
                f"as a patient of its own: {self._nameless}"
            )
        return told
