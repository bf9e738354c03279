"""The words of a row into the vocabulary, or why that is impossible.

The words are CheXpert's; the importers of other sources translate into them first.
"""

import posixpath
import re
from collections.abc import Mapping
from typing import TypeVar

from api_schemas.base import Split
from api_schemas.datasets import RejectionCode
from api_schemas.findings import (
    AGE_LIMIT,
    FINDINGS,
    PRESENT,
    Ethnicity,
    Finding,
    Race,
    Sex,
    View,
    contradictions,
)
from api_schemas.provenance import ImageOrigin
from services.datasets.importers.source import Entry

Row = Mapping[str, str]
PATH = "Path"
PATH_LIMIT = 1000
FOLD_LIMIT = 127
SEED_LIMIT = 2**63 - 1
REPLICA_LIMIT = 2**31 - 1
LATERAL_VIEWS = frozenset({"ll", "rl", "lateral"})
UNSTATED = frozenset({"", "unknown"})
DAYS_A_YEAR = {"Y": 1, "M": 12, "W": 52, "D": 365}

SEXES = {"female": Sex.FEMALE, "f": Sex.FEMALE, "male": Sex.MALE, "m": Sex.MALE}
SEXES_OF_DICOM: dict[str, Sex | None] = {**SEXES, "o": None}
VIEWS = {"ap": View.AP, "pa": View.PA, **dict.fromkeys(LATERAL_VIEWS, View.LATERAL)}
LABELS = {"": None, "1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}
RACES: dict[str, Race | None] = {
    **{race.lower(): race for race in Race},
    "american indian or alaska native": Race.AMERICAN_INDIAN,
    "black": Race.AFRICAN_AMERICAN,
    "black or african american": Race.AFRICAN_AMERICAN,
    "native hawaiian or other pacific islander": Race.PACIFIC_ISLANDER,
    "other": None,
}
ETHNICITIES: dict[str, Ethnicity | None] = {
    **{ethnicity.lower(): ethnicity for ethnicity in Ethnicity},
    **dict.fromkeys(("hispanic", "hispanic/latino"), Ethnicity.HISPANIC),
    **dict.fromkeys(
        ("not hispanic", "non-hispanic", "non-hispanic/non-latino", "not hispanic/latino"),
        Ethnicity.NOT_HISPANIC,
    ),
}
YES_OR_NO = {
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
    **dict.fromkeys(("0", "0.0", "false", "no"), False),
}
GIVEN_SPLITS: dict[str, Split] = {
    "train": "train",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}

_PATIENT = re.compile(r"(?:^|/)(patient[0-9]+)(?=/|$)")
_WHOLE = re.compile(r"[0-9]{1,19}(\.0+)?")
_AGE = re.compile(r"([0-9]{1,6})(?:\.0+)?([YMWD]?)")

V = TypeVar("V")


class RowUnusable(Exception):
    """The row cannot be a sample, for the reason that is its text."""

    def __init__(self, reason: str, code: RejectionCode = RejectionCode.ROW) -> None:
        super().__init__(reason)
        self.code = code


def entry(line: int, row: Row, *, laterals: bool = False) -> Entry:
    """The sample of a row; raises `RowUnusable`. Whether its picture exists is not known here."""
    path = place(row, PATH)
    position = view(row, laterals=laterals)
    fold = whole(row, "Fold", FOLD_LIMIT)
    return Entry(
        line=line,
        place=path,
        patient=_patient(row, path),
        fold=fold,
        split=_split(row, fold),
        age=age(word(row, "Age"), "Age"),
        sex=one_of(row, "Sex", SEXES),
        race=one_of(row, "Race", RACES),
        ethnicity=one_of(row, "Ethnicity", ETHNICITIES),
        view=position,
        labels=findings(row),
        origin=_origin(row),
    )


def names_patient(row: Row) -> bool:
    return bool(word(row, "PID")) or numbered_patient(word(row, PATH)) is not None


def word(row: Row, column: str) -> str:
    return row.get(column, "").strip()


def quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")  # noqa: PLR2004 - a line of a report


def place(row: Row, column: str) -> str:
    """The path of a picture, normalised, below the image root."""
    path = word(row, column)
    if not path:
        raise RowUnusable(f"{column} is blank")
    if path.startswith("/") or ".." in path.split("/"):
        raise RowUnusable(f"{column} must stay below the image root: no leading '/', no '..'")
    normal = posixpath.normpath(path)
    if "\x00" in path or len(path) > PATH_LIMIT or normal == ".":
        raise RowUnusable(f"{column} is not a usable file name")
    return normal


def view(row: Row, *, laterals: bool) -> View | None:
    """The view position; lateral ones are refused unless they are wanted."""
    plane = word(row, "Frontal/Lateral").lower()
    if plane not in {"", "frontal", "lateral"}:
        raise RowUnusable(f"Frontal/Lateral is {quoted(plane)}, not Frontal or Lateral")
    position = View.LATERAL if plane == "lateral" else one_of(row, "AP/PA", VIEWS)
    if position is View.LATERAL and not laterals:
        raise RowUnusable(
            "a lateral image; only frontal ones are imported unless `laterals` is set",
            RejectionCode.VIEW,
        )
    return position


def numbered_patient(path: str) -> str | None:
    """The first folder (or file) of `path` that is called patientNNN."""
    found = _PATIENT.search(path)
    return found and found[1]


def one_of(row: Row, column: str, accepted: Mapping[str, V]) -> V | None:
    said = word(row, column)
    meant = said.lower()
    if meant in UNSTATED:
        return None
    if meant not in accepted:
        names = ", ".join(dict.fromkeys(str(v) for v in accepted.values() if v is not None))
        raise RowUnusable(f"{column} is {quoted(said)}, not one of: {names}")
    return accepted[meant]


def whole(row: Row, column: str, limit: int) -> int | None:
    said = word(row, column)
    if not said:
        return None
    if not _WHOLE.fullmatch(said) or int(said.split(".")[0]) > limit:
        raise RowUnusable(f"{column} is {quoted(said)}, not a whole number from 0 to {limit}")
    return int(said.split(".")[0])


def age(said: str, column: str) -> int | None:
    """Whole years; also as DICOM writes them: 047Y, 018M, 006W, 010D."""
    if not said:
        return None
    match = _AGE.fullmatch(said)
    years = int(match[1]) // DAYS_A_YEAR[match[2] or "Y"] if match else AGE_LIMIT + 1
    if years > AGE_LIMIT:
        raise RowUnusable(f"{column} is {quoted(said)}, not a whole number from 0 to {AGE_LIMIT}")
    return years


def consistent(labels: dict[Finding, int | None]) -> dict[Finding, int | None]:
    """`labels`, unless `No Finding` stands beside a finding."""
    if labels.get(Finding.NO_FINDING) == PRESENT:
        against = contradictions({f for f, value in labels.items() if value == PRESENT})
        if against:
            raise RowUnusable(f"'No Finding' is 1 beside {', '.join(sorted(against))}")
    return labels


def findings(row: Row) -> dict[Finding, int | None]:
    return consistent({f: label(row, f) for f in FINDINGS})


def label(row: Row, column: str) -> int | None:
    said = row.get(column, "")
    if said not in LABELS:
        said = said.strip()
        if said not in LABELS:
            raise RowUnusable(f"{column} is {quoted(said)}, not 1, 0, -1 or blank")
    return LABELS[said]


def _patient(row: Row, path: str) -> str:
    """The PID, else the patientNNN of the path, else the picture itself is the patient."""
    return word(row, "PID") or numbered_patient(path) or path


def _origin(row: Row) -> ImageOrigin | None:
    """What columns `Synthetic` and `Phantom` say, as exported tables have them."""
    phantom = one_of(row, "Phantom", YES_OR_NO) is True
    if one_of(row, "Synthetic", YES_OR_NO) is True:
        return ImageOrigin(kind="synthetic", phantom=phantom)
    return ImageOrigin(kind="phantom", phantom=True) if phantom else None


def _split(row: Row, fold: int | None) -> Split | None:
    if "Split" in row:
        return one_of(row, "Split", GIVEN_SPLITS)
    if fold is None:
        return None
    return "validation" if fold == 0 else "train"
