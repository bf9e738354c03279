"""Whose an image is, in tables that may not say so.

Two images of one patient in different splits are a leak, so that an import must know the patient
of every image, or be told that each is of another.
"""

import re
from collections.abc import Sequence
from typing import Final

from api_schemas.imports import Patients
from services.datasets.importers.columns import Row
from services.datasets.importers.fields import PATH, RowUnusable, numbered_patient, patient, word
from services.datasets.importers.source import PatientsUnknown

ONE_PER_IMAGE: Final = "one_per_image"
COLUMN = "PID"
ROUNDED = re.compile(r"[0-9][.,][0-9]+[eE]\+[0-9]+")
LOOKED_AT = 200
"""Rows of a table that are read before its import begins."""


class PatientNames:
    """The patients of one import; counts the images that name none."""

    def __init__(self, wanted: Patients) -> None:
        self._wanted = wanted
        self.clear()

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
        self._named = self._nameless = self._rounded = 0
        self._names: dict[str, str] = {}
        self._alike: set[str] = set()

    def check(self, row: Row) -> None:
        """Raises `RowUnusable` for a row that names no patient, where it must."""
        name = patient(row, COLUMN) or numbered_patient(word(row, PATH))
        if name is not None:
            self._named += 1
            self._rounded += ROUNDED.fullmatch(name) is not None
            first = self._names.setdefault(_folded(name), name)
            if first != name:
                self._alike |= {first, name}
            return
        if self._wanted != ONE_PER_IMAGE:
            raise RowUnusable(
                f"it names no patient: {COLUMN} is blank, and the path holds no patientNNN"
            )
        self._nameless += 1

    def remarks(self) -> list[str]:
        return [*self._odd(), *self._as_asked()]

    # ------------------------------------------------------------ inside

    def _odd(self) -> list[str]:
        told: list[str] = []
        if self._alike:
            told.append(
                "patients whose names differ only in case, in zeros at their start or in the word "
                f"patient, counted as different people; look whether they are: {len(self._alike)}"
            )
        if self._rounded:
            told.append(
                "images whose patient is a rounded number, as spreadsheets write a long one "
                f"(1.2E+15); different people may have become one: {self._rounded}"
            )
        return told

    def _as_asked(self) -> list[str]:
        if self._nameless:
            told = "images that name no patient, each counted as a patient of its own, as asked"
            return [f"{told} (patients: {ONE_PER_IMAGE}): {self._nameless}"]
        if self._named and self._wanted == ONE_PER_IMAGE:
            return [f"every image names its patient: patients: {ONE_PER_IMAGE} changed nothing"]
        return []


def _folded(name: str) -> str:
    """What names have in common that may be spellings of one."""
    return name.casefold().removeprefix("patient").lstrip("0")
