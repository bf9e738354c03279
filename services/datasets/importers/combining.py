"""Several rows of one image as one: a row a box, or a row a reading."""

from collections.abc import Mapping, Sequence
from typing import Literal

from api_schemas.findings import ABSENT, FINDINGS, PRESENT, UNCERTAIN, Finding
from services.datasets.importers.columns import Row
from services.datasets.importers.fields import (
    DECISIVE,
    GIVEN_SPLITS,
    SEXES,
    RowUnusable,
    UnusableValues,
    label,
    patient,
    word,
)

Combination = Literal["any", "all", "majority"]
"""A finding is 1 where one reading says so, where every one does, or where more than half do."""
Value = int | None


class CombinedRows:
    """The rows of one image, in the columns of a CheXpert-style table."""

    def __init__(self, line: int) -> None:
        self.line = line
        """That of the first."""
        self._row: dict[str, str] = {}
        self._differing: dict[str, str] = {}
        self._readings: dict[str, dict[Finding, Value]] = {}

    def add(self, row: Row, reader: str, unusable: UnusableValues) -> None:
        """One more row; several of one reader are one reading, which finds what one of them does.

        An odd label is counted in `unusable`.
        """
        for name in row.keys() - set(FINDINGS):
            said = word(row, name)
            if said and _meaning(name, self._row.setdefault(name, said)) != _meaning(name, said):
                self._differing[name] = said
        reading = self._readings.setdefault(reader, {})
        for finding in FINDINGS:
            if finding in row:
                values = (reading.get(finding), label(row, finding, unusable))
                reading[finding] = combine(values, "any")

    def combined(self, how: Combination, unusable: UnusableValues) -> dict[str, str]:
        """The one row. A value that differs between the rows is blank and counted; raises
        `RowUnusable` where it decides where the image belongs.
        """
        for name, said in self._differing.items():
            if name in DECISIVE:
                raise RowUnusable(f"the rows of the image state different values of {name}")
            unusable.add(name, said, "the same in all rows of an image")
        row = {name: said for name, said in self._row.items() if name not in self._differing}
        for finding in FINDINGS:
            value = combine([reading.get(finding) for reading in self._readings.values()], how)
            row[finding] = "" if value is None else str(value)
        return row


def _meaning(name: str, said: str) -> object:
    """What is the same in two rows that write it differently."""
    if name == "PID":
        return patient({name: said}, name)
    plain = said.casefold()
    known: Mapping[str, object] = {"Split": GIVEN_SPLITS, "Sex": SEXES}.get(name, {})
    return known.get(plain, plain.removesuffix(".0"))


def combine(values: Sequence[Value], how: Combination) -> Value:
    """What readings (1, 0, -1; None is silent) say together; None if all of them are silent.

    Where some but too few of them find something, it is uncertain, as in VinDr-CXR; but of `all`,
    one that does not find it is enough for 0.
    """
    stated = [value for value in values if value is not None]
    if not stated:
        return None
    found = stated.count(PRESENT)
    if how == "all":
        agreed = set(stated)
        return PRESENT if agreed == {PRESENT} else ABSENT if ABSENT in agreed else UNCERTAIN
    needed = 1 if how == "any" else len(stated) // 2 + 1
    if found >= needed:
        return PRESENT
    return UNCERTAIN if found or UNCERTAIN in stated else ABSENT
