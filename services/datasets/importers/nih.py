"""NIH ChestX-ray14 as the NIH ships it, its labels mapped to CheXpert's.

The labels were mined from reports: about nine in ten are right, by their authors. A finding that
NIH labels is 1 where it is listed and 0 elsewhere. `Infiltration` and `Pleural_Thickening` are
narrower than `Lung Opacity` and `Pleural Other`: those are 1 where listed, 0 only beside
`No Finding`, and blank else. Emphysema, Fibrosis and Hernia have no counterpart; what NIH does
not label (Enlarged Cardiomediastinum, Fracture, Support Devices) is blank.

`train_val_list.txt` and `test_list.txt`, when they are there, state who tests; an eighth of the
other patients validates.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from api_schemas.base import Split
from api_schemas.datasets import RejectionCode
from api_schemas.findings import ABSENT, FINDINGS, PRESENT, Finding
from api_schemas.imports import NihImport
from services.datasets.importers.fields import (
    PATH_LIMIT,
    SEXES,
    VIEWS,
    RowUnusable,
    UnusableValues,
    age,
    one_of,
    patient,
    place,
    quoted,
    word,
)
from services.datasets.importers.files import Roots
from services.datasets.importers.source import Entry, FileMissing
from services.datasets.importers.splits import train_or_validation
from services.datasets.importers.tables import Row, Table

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
IMAGE, LABELS, PATIENT, AGE, VIEW = (
    *("Image Index", "Finding Labels", "Patient ID"),
    *("Patient Age", "View Position"),
)
SEX = ("Patient Gender", "Patient Sex")
LISTS: Mapping[str, bool] = {"test_list.txt": True, "train_val_list.txt": False}
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
KNOWN = frozenset({*set().union(*EXACT.values()), *NARROWER.values(), *WITHOUT_COUNTERPART})


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
        self._table = Table(path, (IMAGE, LABELS, PATIENT, AGE, VIEW))
        self._lists = {
            tests: path
            for name, tests in LISTS.items()
            if (path := roots.below(self.images, name)) is not None
        }
        self._tests: Mapping[str, bool] = {}
        self._folders: Mapping[str, str] = {}

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        self._tests = {name: tests for tests, path in self._lists.items() for name in _lines(path)}
        self._folders = _folders(self.images)
        return self._table.rows()

    def entry(self, line: int, row: Row) -> Entry:
        name = place(row, IMAGE)
        number = patient(row, PATIENT)
        if number is None:
            raise RowUnusable(f"{PATIENT} is blank")
        return Entry(
            line=line,
            place=self._folders.get(name, f"images/{name}"),
            patient=number.zfill(8),
            split=self._split(name, number.zfill(8)),
            age=age(word(row, AGE), AGE, self.unusable),
            sex=one_of(row, next((c for c in SEX if c in row), SEX[0]), SEXES, self.unusable),
            view=one_of(row, VIEW, VIEWS, self.unusable),
            labels=labels_of(word(row, LABELS)),
        )

    def remarks(self) -> list[str]:
        return self._table.remarks()

    def _split(self, name: str, patient: str) -> Split | None:
        if not self._tests:
            return None
        if name not in self._tests:
            raise RowUnusable(
                "in neither test_list.txt nor train_val_list.txt", RejectionCode.UNLISTED
            )
        return "test" if self._tests[name] else train_or_validation(self._request.site, patient)


def labels_of(words: str) -> dict[Finding, int | None]:
    """CheXpert's labels of NIH's, which are joined by `|`."""
    listed = set(words.split("|"))
    unknown = listed - KNOWN
    if unknown:
        raise RowUnusable(f"{LABELS} names {quoted(min(unknown))}, which NIH does not label")
    if NONE in listed and len(listed) > 1:
        raise RowUnusable(f"{LABELS} names findings beside '{NONE}'")
    labels: dict[Finding, int | None] = dict.fromkeys(FINDINGS)
    for finding, names in EXACT.items():
        labels[finding] = PRESENT if names & listed else ABSENT
    for finding, name in NARROWER.items():
        labels[finding] = PRESENT if name in listed else ABSENT if NONE in listed else None
    return labels


def _lines(path: Path) -> Iterator[str]:
    """The names of a list; what is longer than any name comes in parts, which name nothing."""
    with path.open(encoding="utf-8", errors="replace") as file:
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
