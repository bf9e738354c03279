"""NIH ChestX-ray14 as the NIH ships it, its labels mapped to CheXpert's.

The labels were mined from reports: about nine in ten are right, by their authors. A finding that
NIH labels is 1 where it is listed and 0 elsewhere. `Infiltration` and `Pleural_Thickening` are
narrower than `Lung Opacity` and `Pleural Other`: those are 1 where listed, 0 only beside
`No Finding`, and blank else. Emphysema, Fibrosis and Hernia have no counterpart; what NIH does
not label (Enlarged Cardiomediastinum, Fracture, Support Devices) is blank.

`train_val_list.txt` and `test_list.txt` state who tests; an eighth of the other patients validates.
The two lists divide the table, so that one of them says what the other would. Without both, the
split is left open.
"""

import codecs
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from api_schemas.base import Split
from api_schemas.datasets import RejectionCode
from api_schemas.findings import ABSENT, FINDINGS, PRESENT, Finding, View
from api_schemas.imports import NihImport
from services.datasets.importers.fields import (
    PATH_LIMIT,
    SEXES,
    RowUnusable,
    UnusableValues,
    age,
    is_oblique,
    one_of,
    patient,
    place,
    quoted,
    view_position,
    word,
)
from services.datasets.importers.files import Roots
from services.datasets.importers.source import Entry, FileMissing, NotCsv
from services.datasets.importers.splits import train_or_validation
from services.datasets.importers.tables import Row, Table

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
IMAGE, LABELS, PATIENT, AGE, VIEW = (
    *("Image Index", "Finding Labels", "Patient ID"),
    *("Patient Age", "View Position"),
)
SEX = ("Patient Gender", "Patient Sex")
TEST_LIST, TRAIN_LIST = "test_list.txt", "train_val_list.txt"
NONE = "No Finding"
EXACT = {
    Finding.CARDIOMEGALY: {"Cardiomegaly"},
    Finding.EDEMA: {"Edema"},
    Finding.CONSOLIDATION: {"Consolidation"},
    Finding.PNEUMONIA: {"Pneumonia"},
    Finding.ATELECTASIS: {"Atelectasis"},
    Finding.PNEUMOTHORAX: {"Pneumothorax"},
    Finding.PLEURAL_EFFUSION: {"Effusion"},
    Finding.LUNG_LESION: {"Mass", "Nodule"},
    Finding.NO_FINDING: {NONE},
}
NARROWER = {
    Finding.LUNG_OPACITY: "Infiltration",
    Finding.PLEURAL_OTHER: "Pleural_Thickening",
}
WITHOUT_COUNTERPART = frozenset({"Emphysema", "Fibrosis", "Hernia"})
KNOWN = {
    re.sub("[ _]+", " ", name.lower()): name
    for name in {*set().union(*EXACT.values()), *NARROWER.values(), *WITHOUT_COUNTERPART}
}
"""What NIH labels, by its name in small letters, its underscore a blank."""
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Nih:
    """The layout of an NIH folder. Images lie in it, in `images/` or in `images_NNN/images/`."""

    def __init__(self, request: NihImport, roots: Roots) -> None:
        self.images = roots.folder(request.path, field="path")
        self.unusable = UnusableValues()
        self._request = request
        found = (roots.below(self.images, name) for name in TABLES)
        path = next((each for each in found if each is not None), None)
        if path is None:
            raise FileMissing(f"the folder has no {TABLES[0]}", accepted=list(TABLES))
        self._table = Table(path, (IMAGE, LABELS, PATIENT, AGE, VIEW), optional=SEX)
        self._sex = next((name for name in SEX if name in self._table.columns), None)
        self._lists = {
            name: _names(path)
            for name in (TEST_LIST, TRAIN_LIST)
            if (path := roots.below(self.images, name)) is not None
        }
        self._folders: Mapping[str, str] = {}
        self._met: set[str] = set()
        self._inferred = 0

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        self._folders = _folders(self.images)
        self._met.clear()
        self._inferred = 0
        return self._table.rows()

    def entry(self, line: int, row: Row) -> Entry:
        name = posixpath.basename(place(row, IMAGE))
        self._met.add(_bare(name))
        number = patient(row, PATIENT)
        if number is None:
            raise RowUnusable(f"{PATIENT} is blank")
        number = number.zfill(8)
        return Entry(
            line=line,
            place=self._folders.get(name, f"images/{name}"),
            patient=number,
            split=self._split(name, number),
            age=age(word(row, AGE), AGE, self.unusable),
            sex=one_of(row, self._sex, SEXES, self.unusable) if self._sex else None,
            view=self._view(row),
            labels=labels_of(word(row, LABELS)),
        )

    def remarks(self) -> list[str]:
        remarks = self._table.remarks()
        if self._sex is None:
            remarks.append(
                f"{self._table.name} has no column {SEX[0]!r} or {SEX[1]!r}: no sex is known"
            )
        if self._inferred:
            (there,) = self._lists
            other = TRAIN_LIST if there == TEST_LIST else TEST_LIST
            remarks.append(
                f"{other} is missing: images that {there} does not name, counted as those of "
                f"{other}: {self._inferred}"
            )
        for name, names in self._lists.items():
            absent = len(names - self._met)
            if absent:
                remarks.append(
                    f"images that {name} names and {self._table.name} does not: {absent}"
                )
        return remarks

    # ------------------------------------------------------------ inside

    def _view(self, row: Row) -> View | None:
        if is_oblique(word(row, VIEW)):
            raise RowUnusable("an oblique image, neither frontal nor lateral", RejectionCode.VIEW)
        view = view_position(row, VIEW, self.unusable)
        if view is View.LATERAL and not self._request.laterals:
            raise RowUnusable(
                "a lateral image; only frontal ones are imported unless `laterals` is set",
                RejectionCode.VIEW,
            )
        return view

    def _split(self, name: str, patient: str) -> Split | None:
        if not self._lists:
            return None
        naming = [each for each, names in self._lists.items() if _bare(name) in names]
        if len(naming) > 1:
            raise RowUnusable(f"in both {TEST_LIST} and {TRAIN_LIST}", RejectionCode.UNLISTED)
        if not naming and len(self._lists) > 1:
            raise RowUnusable(f"in neither {TEST_LIST} nor {TRAIN_LIST}", RejectionCode.UNLISTED)
        self._inferred += not naming
        tests = naming == [TEST_LIST] or (not naming and TEST_LIST not in self._lists)
        return "test" if tests else train_or_validation(self._request.site, patient)


def labels_of(words: str) -> dict[Finding, int | None]:
    """CheXpert's labels of NIH's, which are joined by `|`."""
    said = {" ".join(name.replace("_", " ").split()) for name in words.split("|")} - {""}
    if not said:
        raise RowUnusable(f"{LABELS} is blank")
    unknown = {name for name in said if name.lower() not in KNOWN}
    if unknown:
        raise RowUnusable(f"{LABELS} names {quoted(min(unknown))}, which NIH does not label")
    listed = {KNOWN[name.lower()] for name in said}
    if NONE in listed and len(listed) > 1:
        raise RowUnusable(f"{LABELS} names findings beside '{NONE}'")
    labels: dict[Finding, int | None] = dict.fromkeys(FINDINGS)
    for finding, names in EXACT.items():
        labels[finding] = PRESENT if names & listed else ABSENT
    for finding, name in NARROWER.items():
        labels[finding] = PRESENT if name in listed else ABSENT if NONE in listed else None
    return labels


def _names(path: Path) -> frozenset[str]:
    """The images that a list names; raises `SourceUnusable` where it names none."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
        names = frozenset(_bare(line) for line in _lines(path) if line)
    except OSError as error:
        raise FileMissing(f"{path.name} cannot be read") from error
    if start in UTF_16:
        raise NotCsv(f"{path.name} is not UTF-8 text")
    if not names:
        raise NotCsv(f"{path.name} names no image")
    return names


def _bare(name: str) -> str:
    """The name of an image without folder, suffix and quotes, in small letters."""
    return posixpath.splitext(posixpath.basename(name.strip("\"' ")))[0].lower()


def _lines(path: Path) -> Iterator[str]:
    """The lines of a list; one longer than any name comes in parts, which name nothing."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        while line := file.readline(PATH_LIMIT):
            yield line.strip()


def _folders(root: Path) -> dict[str, str]:
    """Where each image lies below `root`, by its name."""
    found: dict[str, str] = {}
    for folder in (root, *sorted(root.glob("images*")), *sorted(root.glob("images*/images"))):
        if folder.is_dir():
            for file in folder.iterdir():
                if file.suffix == ".png":
                    found.setdefault(file.name, str(file.relative_to(root)))
    return found
