"""The words of a row into the vocabulary, or why that is impossible.

The words are CheXpert's; the importers of other sources translate into them first.

One rule holds in every importer. A value that cannot be used costs that value: it is left blank
and counted (`UnusableValues`), and the notes of the import say so. Only what decides whether and
where an image belongs costs the row (`RowUnusable`): its path, its patient, its split or fold, a
lateral view, and `No Finding` beside a finding. What says that a value is missing (`nan`, `NA`,
`unknown`, ...) is blank and needs no note.
"""

import posixpath
import re
import unicodedata
from collections import Counter
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
from api_schemas.missing import is_missing
from api_schemas.provenance import ImageOrigin
from services.datasets.importers.source import Entry

Row = Mapping[str, str]
PATH = "Path"
DECISIVE = frozenset({PATH, "PID", "Split", "Fold"})
"""The columns that decide whether and where an image belongs."""
PATH_LIMIT = 1000
FOLD_LIMIT = 127
SEED_LIMIT = 2**63 - 1
REPLICA_LIMIT = 2**31 - 1
LATERAL_VIEWS = frozenset({"ll", "rl", "llat", "rlat", "lateral", "lat", "l"})
LATERAL_PHRASES = LATERAL_VIEWS | {
    "left",
    "right",
    "r",
    "view",
    "erect",
    "standing",
    "chest",
    "cxr",
}
"""Words beside which a lateral view is still one: "Left lateral", but not "Lateral decubitus"."""
FRONTAL = frozenset({"frontal", "f"})
OBLIQUE_VIEWS = frozenset({"oblique", "lao", "rao", "lpo", "rpo", "llo", "rlo"})
DAYS_A_YEAR = {"Y": 1, "M": 12, "W": 52, "D": 365}

SEXES = {"female": Sex.FEMALE, "f": Sex.FEMALE, "male": Sex.MALE, "m": Sex.MALE}
SEXES_OF_DICOM: dict[str, Sex | None] = {**SEXES, "o": None}
VIEWS: dict[str, View | None] = {
    "ap": View.AP,
    "pa": View.PA,
    "frontal": None,
    **dict.fromkeys(LATERAL_VIEWS, View.LATERAL),
}
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
    "training": "train",
    "valid": "validation",
    "validate": "validation",
    "validation": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}

EXAMPLES = 3
UNSEEN = frozenset({"Cc", "Cf"})
"""Unicode's control and format characters: a zero-width blank, a byte order mark."""

_PATIENT = re.compile(r"(?:^|/)(patient[0-9]+)(?=/|$)")
_WHOLE = re.compile(r"[0-9]{1,19}(\.0*)?")
_LABEL = re.compile(r"([+-]?)([01])(?:\.0+)?")
_AGE = re.compile(r"([0-9]{1,6})(?:\.0+)?([YMWD]?)")

V = TypeVar("V")


class RowUnusable(Exception):
    """The row cannot be a sample, for the reason that is its text."""

    def __init__(self, reason: str, code: RejectionCode = RejectionCode.ROW) -> None:
        super().__init__(reason)
        self.code = code
        self.split: Split | None = None
        """That of the row, where it states one."""


class UnusableValues:
    """The values of an import that were left blank because they could not be read, by column.

    Keeps a few distinct ones as examples, cut as `quoted` cuts them: a table whose columns are
    mixed up can have anything in them.
    """

    def __init__(self) -> None:
        self.labels = 0
        """How many of them were labels."""
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], dict[str, None]] = {}

    def add(self, column: str, value: str, accepted: str) -> None:
        """Count a value of `column` that is none of `accepted`, which is a phrase."""
        key = column, accepted
        self._counts[key] += 1
        examples = self._examples.setdefault(key, {})
        if len(examples) < EXAMPLES:
            examples[quoted(value)] = None

    def clear(self) -> None:
        self.__init__()

    def remarks(self) -> list[str]:
        return [
            f"values of {column} that were left blank, as they are not {accepted}: {count} "
            f"({', '.join(self._examples[column, accepted])})"
            for (column, accepted), count in self._counts.items()
        ]


def entry(line: int, row: Row, unusable: UnusableValues, *, laterals: bool = False) -> Entry:
    """The sample of a row; raises `RowUnusable`. Whether its picture exists is not known here."""
    fold = whole(row, "Fold", FOLD_LIMIT)
    split = _split(row, fold)
    try:
        return _entry(line, row, fold, split, unusable, laterals=laterals)
    except RowUnusable as error:
        error.split = split
        raise


def _entry(
    line: int,
    row: Row,
    fold: int | None,
    split: Split | None,
    unusable: UnusableValues,
    *,
    laterals: bool,
) -> Entry:
    path = place(row, PATH)
    position = view(row, unusable, laterals=laterals)
    return Entry(
        line=line,
        place=path,
        patient=_patient(row, path),
        fold=fold,
        split=split,
        age=age(word(row, "Age"), "Age", unusable),
        sex=one_of(row, "Sex", SEXES, unusable),
        race=one_of(row, "Race", RACES, unusable),
        ethnicity=one_of(row, "Ethnicity", ETHNICITIES, unusable),
        view=position,
        labels=findings(row, unusable),
        origin=_origin(row, unusable),
    )


def word(row: Row, column: str) -> str:
    """What stands in a cell; nothing, where it says in whatever words that a value is missing."""
    said = row.get(column, "").strip()
    return "" if is_missing(said) else said


def patient(row: Row, column: str) -> str | None:
    """The name of a patient; None where nothing stands that could be one.

    A word such as `nan` or `unknown` would make one patient of strangers. A whole number is the
    same patient with and without the `.0` that programs add to a column with blanks, and a name is
    the same however its letters are composed (Unicode's NFKC) and whatever stands in it unseen.
    """
    said = _visible(word(row, column))
    if is_missing(said) or not any(map(str.isalnum, said)):
        return None
    return said.split(".")[0] if _WHOLE.fullmatch(said) else said


def _visible(name: str) -> str:
    """`name` composed, without unseen characters, and with single blanks."""
    if name.isascii() and name.isprintable() and "  " not in name:
        return name
    plain = unicodedata.normalize("NFKC", name)
    seen = (c for c in plain if c.isspace() or unicodedata.category(c) not in UNSEEN)
    return " ".join("".join(seen).split())


def quoted(text: str) -> str:
    text = str(text)
    return repr(text if len(text) <= 40 else text[:40] + "…")  # noqa: PLR2004 - a line of a report


def place(row: Row, column: str) -> str:
    """The path of a picture, normalised, below the image root."""
    path = slashed(word(row, column))
    if not path:
        raise RowUnusable(f"{column} is blank")
    if path.startswith("/") or ".." in path.split("/"):
        raise RowUnusable(f"{column} must stay below the image root: no leading '/', no '..'")
    normal = posixpath.normpath(path)
    if "\x00" in path or len(path) > PATH_LIMIT or normal == ".":
        raise RowUnusable(f"{column} is not a usable file name")
    return normal


def slashed(path: str) -> str:
    """`path` with slashes between its folders, as Windows does not write it."""
    return path.replace("\\", "/")


def view(row: Row, unusable: UnusableValues, *, laterals: bool) -> View | None:
    """The view position; lateral ones are refused unless they are wanted.

    `Frontal/Lateral` goes before `AP/PA`: a frontal image with the position of a lateral one has
    an unknown position.
    """
    plane = _plane(word(row, "Frontal/Lateral"))
    said = word(row, "AP/PA")
    if is_oblique(plane) or is_oblique(said):
        raise RowUnusable("an oblique image, neither frontal nor lateral", RejectionCode.VIEW)
    if plane not in {"", *FRONTAL, *LATERAL_VIEWS}:
        unusable.add("Frontal/Lateral", plane, "Frontal or Lateral")
    position = view_position(row, "AP/PA", unusable)
    if plane in LATERAL_VIEWS:
        position = View.LATERAL
    elif plane in FRONTAL and position is View.LATERAL:
        unusable.add("AP/PA of frontal images", said, "AP or PA")
        position = None
    if position is View.LATERAL and not laterals:
        raise RowUnusable(
            "a lateral image; only frontal ones are imported unless `laterals` is set",
            RejectionCode.VIEW,
        )
    return position


def view_position(row: Row, column: str, unusable: UnusableValues) -> View | None:
    """The view position that a cell states; None where it states none that is known."""
    if _plane(word(row, column)) in LATERAL_VIEWS:
        return View.LATERAL
    return one_of(row, column, VIEWS, unusable)


def is_oblique(said: str) -> bool:
    """Whether a view is said to be oblique, by its abbreviation or in words."""
    words = re.findall(r"[a-z]+", said.lower())
    return said.lower() in OBLIQUE_VIEWS or "oblique" in words


def _plane(said: str) -> str:
    """A view in small letters; of several words that only describe a lateral one, "lateral"."""
    words = set(re.findall(r"[a-z]+", said.lower()))
    described = words & (LATERAL_VIEWS - {"l"}) and words <= LATERAL_PHRASES
    return "lateral" if described else said.lower()


def numbered_patient(path: str) -> str | None:
    """The first folder (or file) of `path` that is called patientNNN."""
    found = _PATIENT.search(slashed(path))
    return found and found[1]


def one_of(
    row: Row, column: str, accepted: Mapping[str, V | None], unusable: UnusableValues
) -> V | None:
    """What the word of a cell means; None where it means nothing that is known."""
    said = word(row, column)
    meant = said.lower()
    if not said:
        return None
    if meant not in accepted:
        names = dict.fromkeys(str(v) for v in accepted.values() if v is not None)
        unusable.add(column, said, f"one of {', '.join(names)}")
        return None
    return accepted[meant]


def whole(row: Row, column: str, limit: int) -> int | None:
    """A whole number that the row cannot do without."""
    said = word(row, column)
    if not said:
        return None
    if not _WHOLE.fullmatch(said) or int(said.split(".")[0]) > limit:
        raise RowUnusable(f"{column} is {quoted(said)}, not a whole number from 0 to {limit}")
    return int(said.split(".")[0])


def age(said: str, column: str, unusable: UnusableValues) -> int | None:
    """Whole years; also as DICOM writes them: 047Y, 018M, 006W, 010D."""
    if not said:
        return None
    match = _AGE.fullmatch(said)
    years = int(match[1]) // DAYS_A_YEAR[match[2] or "Y"] if match else AGE_LIMIT + 1
    if years > AGE_LIMIT:
        unusable.add(column, said, f"a whole number from 0 to {AGE_LIMIT}")
        return None
    return years


def consistent(labels: dict[Finding, int | None]) -> dict[Finding, int | None]:
    """`labels`, unless `No Finding` stands beside a finding."""
    if labels.get(Finding.NO_FINDING) == PRESENT:
        against = contradictions({f for f, value in labels.items() if value == PRESENT})
        if against:
            raise RowUnusable(f"'No Finding' is 1 beside {', '.join(sorted(against))}")
    return labels


def findings(row: Row, unusable: UnusableValues) -> dict[Finding, int | None]:
    return consistent({f: label(row, f, unusable) for f in FINDINGS})


def label(row: Row, column: str, unusable: UnusableValues) -> int | None:
    """1, 0 or -1, with as many zeros after the point as somebody likes; None for a blank."""
    said = row.get(column, "")
    if said in LABELS:
        return LABELS[said]
    said = word(row, column)
    if not said:
        return None
    match = _LABEL.fullmatch(said)
    if match is None:
        unusable.labels += 1
        unusable.add(column, said, "1, 0, -1 or blank")
        return None
    return int(match[1] + match[2])


def _patient(row: Row, path: str) -> str:
    """The PID, else the patientNNN of the path, else the picture itself is the patient."""
    return patient(row, "PID") or numbered_patient(path) or path


def _origin(row: Row, unusable: UnusableValues) -> ImageOrigin | None:
    """What columns `Synthetic` and `Phantom` say, as exported tables have them."""
    phantom = one_of(row, "Phantom", YES_OR_NO, unusable) is True
    if one_of(row, "Synthetic", YES_OR_NO, unusable) is True:
        return ImageOrigin(kind="synthetic", phantom=phantom)
    return ImageOrigin(kind="phantom", phantom=True) if phantom else None


def _split(row: Row, fold: int | None) -> Split | None:
    """What `Split` states, or else what `Fold` does."""
    said = word(row, "Split")
    if said and said.lower() not in GIVEN_SPLITS:
        accepted = ", ".join(dict.fromkeys(GIVEN_SPLITS.values()))
        raise RowUnusable(f"Split is {quoted(said)}, not one of: {accepted}")
    if said or fold is None:
        return GIVEN_SPLITS.get(said.lower())
    return "validation" if fold == 0 else "train"
