"""One row of a CheXpert-style CSV: its words into the vocabulary, or why that is impossible."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TypeVar

from api_schemas.base import Split
from api_schemas.findings import (
    AGE_LIMIT,
    FINDINGS,
    PRESENT,
    Finding,
    Race,
    Sex,
    View,
    contradictions,
)
from services.datasets.importers.source import Entry

Row = Mapping[str, str]
PATH = "Path"
PATH_LIMIT = 1000
FOLD_LIMIT = 127
LATERAL_VIEWS = frozenset({"ll", "rl", "lateral"})
UNSTATED = frozenset({"", "unknown"})

SEXES = {"female": Sex.FEMALE, "f": Sex.FEMALE, "male": Sex.MALE, "m": Sex.MALE}
VIEWS = {"ap": View.AP, "pa": View.PA}
LABELS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}
RACES: dict[str, Race | None] = {
    **{race.lower(): race for race in Race},
    "american indian or alaska native": Race.AMERICAN_INDIAN,
    "black": Race.AFRICAN_AMERICAN,
    "black or african american": Race.AFRICAN_AMERICAN,
    "native hawaiian or other pacific islander": Race.PACIFIC_ISLANDER,
    "other": None,
}
GIVEN_SPLITS: dict[str, Split] = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "test": "test",
}

V = TypeVar("V")


class RowUnusable(Exception):
    """The row cannot be a sample, for the reason that is its text."""


def entry(line: int, row: Row) -> Entry:
    """The sample of a row; raises `RowUnusable`. Whether its picture exists is not known here."""
    place = _place(row)
    _refuse_lateral(row)
    fold = _whole(row, "Fold", FOLD_LIMIT)
    return Entry(
        line=line,
        place=place,
        patient=_patient(row, place),
        fold=fold,
        split=_split(row, fold),
        age=_whole(row, "Age", AGE_LIMIT),
        sex=_one_of(row, "Sex", SEXES),
        race=_one_of(row, "Race", RACES),
        view=_one_of(row, "AP/PA", VIEWS),
        labels=_labels(row),
    )


def names_patient(row: Row) -> bool:
    return bool(_word(row, "PID")) or _numbered_patient(_word(row, PATH)) is not None


def _word(row: Row, column: str) -> str:
    return row.get(column, "").strip()


def _quoted(word: str) -> str:
    return repr(word if len(word) <= 40 else word[:40] + "…")  # noqa: PLR2004 - a line of a report


def _place(row: Row) -> str:
    """The path of the picture, normalised, below the image root."""
    word = _word(row, PATH)
    path = PurePosixPath(word)
    if not word:
        raise RowUnusable("Path is blank")
    if path.is_absolute() or ".." in path.parts:
        raise RowUnusable("Path must stay below the image root: no leading '/', no '..'")
    if "\x00" in word or len(word) > PATH_LIMIT or not path.parts:
        raise RowUnusable("Path is not a usable file name")
    return str(path)


def _refuse_lateral(row: Row) -> None:
    plane = _word(row, "Frontal/Lateral").lower()
    if plane == "lateral" or _word(row, "AP/PA").lower() in LATERAL_VIEWS:
        raise RowUnusable("a lateral image; only frontal ones are imported")
    if plane not in {"", "frontal"}:
        raise RowUnusable(f"Frontal/Lateral is {_quoted(plane)}, not Frontal or Lateral")


def _patient(row: Row, place: str) -> str:
    """The PID, else the patientNNN of the path, else the picture itself is the patient."""
    pid = _word(row, "PID")
    if pid:
        return pid
    return _numbered_patient(place) or place


def _numbered_patient(place: str) -> str | None:
    return next((p for p in place.split("/") if re.fullmatch(r"patient\d+", p)), None)


def _one_of(row: Row, column: str, accepted: Mapping[str, V]) -> V | None:
    word = _word(row, column)
    if word.lower() in UNSTATED:
        return None
    if word.lower() not in accepted:
        names = ", ".join(dict.fromkeys(str(v) for v in accepted.values() if v is not None))
        raise RowUnusable(f"{column} is {_quoted(word)}, not one of: {names}")
    return accepted[word.lower()]


def _whole(row: Row, column: str, limit: int) -> int | None:
    word = _word(row, column)
    if not word:
        return None
    if not re.fullmatch(r"[0-9]{1,6}(\.0+)?", word) or int(float(word)) > limit:
        raise RowUnusable(f"{column} is {_quoted(word)}, not a whole number from 0 to {limit}")
    return int(float(word))


def _split(row: Row, fold: int | None) -> Split | None:
    if "Split" in row:
        return _one_of(row, "Split", GIVEN_SPLITS)
    if fold is None:
        return None
    return "validation" if fold == 0 else "train"


def _labels(row: Row) -> dict[Finding, int | None]:
    labels = {f: _label(row, f) for f in FINDINGS}
    against = contradictions({f for f, value in labels.items() if value == PRESENT})
    if against:
        names = ", ".join(sorted(against))
        raise RowUnusable(f"'No Finding' is 1 beside {names}")
    return labels


def _label(row: Row, finding: Finding) -> int | None:
    word = _word(row, finding)
    if not word:
        return None
    if word not in LABELS:
        raise RowUnusable(f"{finding} is {_quoted(word)}, not 1, 0, -1 or blank")
    return LABELS[word]
