"""Whose an image is, in tables that may not say so.

Two images of one patient in different splits are a leak, so that an import must know the patient
of every image, or be told that each is of another.
"""

from collections.abc import Sequence
from typing import Final

from api_schemas.imports import Patients
from services.datasets.importers.columns import Row
from services.datasets.importers.fields import PATH, RowUnusable, numbered_patient, patient, word
from services.datasets.importers.source import PatientsUnknown

ONE_PER_IMAGE: Final = "one_per_image"
COLUMN = "PID"
LOOKED_AT = 200
"""Rows of a table that are read before its import begins."""


class PatientNames:
    """The patients of one import; counts the images that name none."""

    def __init__(self, wanted: Patients) -> None:
        self._wanted = wanted
        self._named = self._nameless = 0

    def require(self, columns: Sequence[str], head: Sequence[Row]) -> None:
        """Raises `PatientsUnknown` for a table that visibly names no patient."""
        if self._wanted == ONE_PER_IMAGE or COLUMN in columns:
            return
        if not all(numbered_patient(word(row, PATH)) for row in head):
            raise PatientsUnknown(
                "The table has no column that names the patient, and its paths hold no "
                "patientNNN: images of one patient could come to train and to test. Name the "
                f"column {COLUMN}, or say that every image is of another patient "
                f"(patients: {ONE_PER_IMAGE})",
                field="patients",
                accepted=[ONE_PER_IMAGE],
            )

    def clear(self) -> None:
        self._named = self._nameless = 0

    def check(self, row: Row) -> None:
        """Raises `RowUnusable` for a row that names no patient, where it must."""
        if patient(row, COLUMN) is not None or numbered_patient(word(row, PATH)) is not None:
            self._named += 1
            return
        if self._wanted != ONE_PER_IMAGE:
            raise RowUnusable(
                f"it names no patient: {COLUMN} is blank, and the path holds no patientNNN"
            )
        self._nameless += 1

    def remarks(self) -> list[str]:
        if self._nameless:
            told = "images that name no patient, each counted as a patient of its own, as asked"
            return [f"{told} (patients: {ONE_PER_IMAGE}): {self._nameless}"]
        if self._named and self._wanted == ONE_PER_IMAGE:
            return [f"every image names its patient: patients: {ONE_PER_IMAGE} changed nothing"]
        return []
