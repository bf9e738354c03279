"""CheXpert v1.0 and v1.0-small as Stanford ships them, and the split of the paper.

The folder holds `train.csv`, `valid.csv`, `train/` and `valid/`; the paths in the tables begin
with the folder's official name, whatever it is called here. Race and ethnicity come from the
separate table `CHEXPERT DEMO`, which knows patients, not images. An age of 0 is CheXpert's blank.

Rows of `valid.csv` are validation and patients of `train.csv` are split by a stable hash, unless
the paper's lists (`cxp_tr.csv.gz`, `cxp_ts.csv.gz`) say who trains and who tests: then only what
they list is imported, and an eighth of the training patients validates.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from api_schemas.base import Split
from api_schemas.datasets import RejectionCode
from api_schemas.findings import FINDINGS, Ethnicity, Race
from api_schemas.imports import ChexpertImport
from services.datasets.importers.fields import (
    PATH,
    RowUnusable,
    UnusableValues,
    entry,
    numbered_patient,
    word,
)
from services.datasets.importers.files import Roots
from services.datasets.importers.races import ethnicity_of, race_of
from services.datasets.importers.source import Entry, FileMissing
from services.datasets.importers.splits import train_or_validation
from services.datasets.importers.tables import Row, Table

OFFICIAL = (
    *("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding"),
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion"),
    *("Pleural Other", "Fracture", "Support Devices"),
)
NEEDED = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS)
TABLES: dict[str, Split | None] = {"train.csv": None, "valid.csv": "validation"}
OFFICIAL_FOLDER = re.compile(r"CheXpert-v1\.0[^/]*")
PATIENT, RACE, ETHNICITY = "PATIENT", "PRIMARY_RACE", "ETHNICITY"


class _Person(NamedTuple):
    """What the demographics say of a patient."""

    race: Race | None
    ethnicity: Ethnicity | None


NOBODY = _Person(None, None)


class Chexpert:
    """The layout of a CheXpert folder. `valid.csv` may be missing; its lines count on."""

    def __init__(self, request: ChexpertImport, roots: Roots) -> None:
        self.images = roots.folder(request.path, field="path")
        self.unusable = UnusableValues()
        self._request = request
        self._tables = {
            name: Table(path, NEEDED, official=OFFICIAL)
            for name in TABLES
            if (path := roots.below(self.images, name)) is not None
        }
        if "train.csv" not in self._tables:
            raise FileMissing("the folder has no train.csv", accepted=list(TABLES))
        self._demographics = _table(roots, request.demographics, "demographics", (PATIENT, RACE))
        self._lists: dict[Split, Table | None] = {
            "test": _table(roots, request.test_list, "test_list", (PATH,)),
            "train": _table(roots, request.train_list, "train_list", (PATH,)),
        }
        self._people: Mapping[str, _Person] = {}
        self._listed: Mapping[str, Split] = {}
        self._table_splits: list[tuple[int, Split | None]] = []
        self._told: list[str] = []
        self._ages_0 = self._strangers = 0

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        self._told, self._table_splits = [], []
        self._ages_0 = self._strangers = 0
        self._people = self._read_people()
        self._listed = self._read_lists()
        before = 0
        for name, table in self._tables.items():
            self._table_splits.append((before, TABLES[name]))
            if before:
                self._told.append(f"line N of {name} is counted as line N + {before}")
            last = before
            for line, row in table.rows():
                last = before + line
                yield last, row
            before = last

    def entry(self, line: int, row: Row) -> Entry:
        sample = entry(line, row, self.unusable, laterals=self._request.laterals)
        path = inside(sample.place)
        patient = numbered_patient(path)
        if patient is None:
            raise RowUnusable("Path names no patientNNNNN")
        person = self._people.get(patient, NOBODY)
        self._strangers += person is NOBODY
        return replace(
            sample,
            place=path,
            patient=patient,
            split=self._split(line, path, patient),
            age=self._age(sample.age),
            race=person.race,
            ethnicity=person.ethnicity,
        )

    def remarks(self) -> list[str]:
        told = [remark for table in self._tables.values() for remark in table.remarks()]
        if self._ages_0:
            told.append(f"ages of 0, which stand for unknown in CheXpert: {self._ages_0}")
        if self._demographics is not None and self._strangers:
            told.append(f"images whose patient is not in the demographics: {self._strangers}")
        return [*told, *self._told]

    # ------------------------------------------------------------ inside

    def _age(self, age: int | None) -> int | None:
        self._ages_0 += age == 0
        return age or None

    def _split(self, line: int, path: str, patient: str) -> Split | None:
        if not any(self._lists.values()):
            return next(split for before, split in reversed(self._table_splits) if line > before)
        listed = self._listed.get(path)
        if listed is None:
            raise RowUnusable("in neither list of the split", RejectionCode.UNLISTED)
        return listed if listed == "test" else train_or_validation(self._request.site, patient)

    def _read_people(self) -> dict[str, _Person]:
        if self._demographics is None:
            return {}
        people: dict[str, _Person] = {}
        for _, row in self._demographics.rows():
            if isinstance(row, dict):
                race = word(row, RACE)
                ethnicity = ethnicity_of(word(row, ETHNICITY)) or ethnicity_of(race)
                people[word(row, PATIENT)] = _Person(race_of(race), ethnicity)
        self._told += self._demographics.remarks()
        races = sum(person.race is not None for person in people.values())
        ethnicities = sum(person.ethnicity is not None for person in people.values())
        self._told.append(
            f"of {len(people)} patients of the demographics, {races} state one of the five races "
            f"and {ethnicities} their ethnicity"
        )
        return people

    def _read_lists(self) -> dict[str, Split]:
        listed: dict[str, Split] = {}
        for split, table in self._lists.items():
            for _, row in table.rows() if table else ():
                if isinstance(row, dict):
                    listed.setdefault(inside(word(row, PATH)), split)
        return listed


def inside(path: str) -> str:
    """`path` below the CheXpert folder, whatever that is called."""
    head, _, rest = path.partition("/")
    return rest if rest and OFFICIAL_FOLDER.fullmatch(head) else path


def _table(roots: Roots, name: str | None, field: str, needed: tuple[str, ...]) -> Table | None:
    if name is None:
        return None
    path: Path = roots.file(name, field=field)
    return Table(path, needed, blame=field)
