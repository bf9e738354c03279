"""CheXpert v1.0 and v1.0-small as Stanford ships them, and the split of the paper.

The folder holds `train.csv`, `valid.csv`, `train/` and `valid/`; the paths in the tables begin
with the folder's official name, whatever it is called here. The full edition of 2021 unpacks to
four folders side by side: the tables and `valid/` lie in "batch 1", the patients of `train/` in
the others. Race and ethnicity come from the separate table `CHEXPERT DEMO`, which knows patients,
not images. An age of 0 is CheXpert's blank.

Rows of `valid.csv` are validation and patients of `train.csv` are split by a stable hash, unless
the paper's lists (`cxp_tr.csv.gz`, `cxp_ts.csv.gz`) say who trains and who tests: then only what
they list is imported, and an eighth of the training patients validates.
"""

import re
from collections import Counter
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
    quoted,
    slashed,
    word,
)
from services.datasets.importers.files import Roots
from services.datasets.importers.races import (
    ethnicity_of,
    is_known,
    race_of,
    remark_unknown_words,
)
from services.datasets.importers.source import Entry, FileMissing, PathOutsideRoots
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
OFFICIAL_FOLDER = re.compile(r"CheXpert-v1\.0[^/]*", re.IGNORECASE)
BATCH = re.compile(r"CheXpert.*[\W_]batch[\W_]*[0-9]+(?![0-9]).*", re.IGNORECASE)
"""Folders of the full edition: "CheXpert-v1.0 batch 2 (train 1)", also with other signs between
the words, as some programs unpack it.
"""
SUFFIXES = (".csv", ".csv.gz", ".xlsx")
PATIENT, RACE, ETHNICITY = "PATIENT", "PRIMARY_RACE", "ETHNICITY"


class _Person(NamedTuple):
    """What the rows of the demographics say of a patient together; what differs is nothing."""

    race: Race | None = None
    ethnicity: Ethnicity | None = None
    differing_race: bool = False
    differing_ethnicity: bool = False

    def also(self, race: Race | None, ethnicity: Ethnicity | None) -> "_Person":
        """With one more row."""
        races = self.differing_race or len({race, self.race} - {None}) > 1
        ethnicities = self.differing_ethnicity or len({ethnicity, self.ethnicity} - {None}) > 1
        return _Person(
            race=None if races else self.race or race,
            ethnicity=None if ethnicities else self.ethnicity or ethnicity,
            differing_race=races,
            differing_ethnicity=ethnicities,
        )


NOBODY = _Person()


class Chexpert:
    """The layout of a CheXpert folder. `valid.csv` may be missing; its lines count on."""

    def __init__(self, request: ChexpertImport, roots: Roots) -> None:
        home = _home(roots, roots.folder(request.path, field="path"))
        self.images, self._batches = _batches(roots, home)
        self.unusable = UnusableValues()
        self._request = request
        self._tables = {
            name: Table(path, NEEDED, official=OFFICIAL)
            for name in TABLES
            if (path := roots.below(home, name)) is not None
        }
        self._demographics = _table(
            roots, request.demographics, "demographics", (PATIENT, RACE), (ETHNICITY,)
        )
        self._lists: dict[Split, Table | None] = {
            "test": _table(roots, request.test_list, "test_list", (PATH,)),
            "train": _table(roots, request.train_list, "train_list", (PATH,)),
        }
        given = (request.demographics, request.train_list, request.test_list)
        self._others = _others(home, {*TABLES, *(Path(name).name for name in given if name)})
        self._people: Mapping[str, _Person] = {}
        self._listed: Mapping[str, Split] = {}
        self._unseen: set[str] = set()
        self._table_splits: list[tuple[int, Split | None]] = []
        self._told: list[str] = []
        self._ages_0 = self._strangers = 0

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        self._told, self._table_splits = [], []
        self._ages_0 = self._strangers = 0
        self._people = self._read_people()
        self._listed = self._read_lists()
        self._unseen = set(self._listed)
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
        try:
            return self._entry(line, row)
        except RowUnusable as error:
            error.split = error.split or self._table_split(line)
            raise

    def candidates(self, place: str) -> list[str]:
        """In the folder itself, or in one of the batches, which have no `train/` of their own."""
        if not self._batches:
            return [place]
        inner = place.removeprefix("train/")
        below = [f"{batch}/{name}" for batch in self._batches for name in (place, inner)]
        return [*below, place]

    def _entry(self, line: int, row: Row) -> Entry:
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
        told += [
            f"the folder has no {name}: its images are missing"
            for name in TABLES
            if name not in self._tables
        ]
        if self._unseen:
            told.append(
                "images of the lists of the split that the tables do not have, or not as usable "
                f"rows: {len(self._unseen)}"
            )
        if self._ages_0:
            told.append(f"ages of 0, which stand for unknown in CheXpert: {self._ages_0}")
        if self._demographics is not None and self._strangers:
            told.append(f"images whose patient is not in the demographics: {self._strangers}")
        if self._batches:
            told.append(f"folders in which the images were looked for: {len(self._batches)}")
        if self._others:
            names = ", ".join(map(quoted, self._others))
            told.append(f"tables of the folder that were not asked for and not read: {names}")
        return [*told, *self._told]

    # ------------------------------------------------------------ inside

    def _age(self, age: int | None) -> int | None:
        self._ages_0 += age == 0
        return age or None

    def _split(self, line: int, path: str, patient: str) -> Split | None:
        if not any(self._lists.values()):
            return self._table_split(line)
        listed = self._listed.get(path)
        self._unseen.discard(path)
        if listed is None:
            raise RowUnusable("in neither list of the split", RejectionCode.UNLISTED)
        return listed if listed == "test" else train_or_validation(self._request.site, patient)

    def _table_split(self, line: int) -> Split | None:
        return next(split for before, split in reversed(self._table_splits) if line > before)

    def _read_people(self) -> dict[str, _Person]:
        if self._demographics is None:
            return {}
        people: dict[str, _Person] = {}
        unknown_words: Counter[str] = Counter()
        for row in self._demographics.fitting():
            race, patient = word(row, RACE), word(row, PATIENT)
            unknown_words[race] += not is_known(race)
            ethnicity = ethnicity_of(word(row, ETHNICITY)) or ethnicity_of(race)
            people[patient] = people.get(patient, NOBODY).also(race_of(race), ethnicity)
        people.pop("", None)
        self._told += self._demographics.remarks()
        races = sum(person.race is not None for person in people.values())
        ethnicities = sum(person.ethnicity is not None for person in people.values())
        self._told.append(
            f"of {len(people)} patients of the demographics, {races} state one of the five races "
            f"and {ethnicities} their ethnicity"
        )
        self._told += remark_unknown_words(unknown_words, "rows of the demographics")
        for what, differing in (
            ("races", sum(person.differing_race for person in people.values())),
            ("ethnicities", sum(person.differing_ethnicity for person in people.values())),
        ):
            if differing:
                self._told.append(
                    f"patients whose rows of the demographics state different {what}, counted as "
                    f"none: {differing}"
                )
        return people

    def _read_lists(self) -> dict[str, Split]:
        listed: dict[str, Split] = {}
        both = 0
        for split, table in self._lists.items():
            for row in table.fitting() if table else ():
                path = inside(slashed(word(row, PATH)))
                both += listed.setdefault(path, split) != split
            self._told += table.remarks() if table else []
        listed.pop("", None)
        if both:
            self._told.append(f"images that both lists name, counted as test images: {both}")
        return listed


def inside(path: str) -> str:
    """`path` below the CheXpert folder, whatever that is called."""
    head, _, rest = path.partition("/")
    return rest if rest and OFFICIAL_FOLDER.fullmatch(head) else path


def _home(roots: Roots, folder: Path) -> Path:
    """The folder of the tables: `folder`, or the batch below it that holds them."""
    homes = [folder, *_batches_below(folder)]
    found = [home for home in homes if roots.below(home, "train.csv") is not None]
    if not found:
        raise FileMissing("the folder has no train.csv", accepted=list(TABLES))
    return found[0]


def _batches(roots: Roots, home: Path) -> tuple[Path, list[str]]:
    """The folder in which images are looked for, and its batches, that of the tables first."""
    if not BATCH.fullmatch(home.name):
        return home, []
    try:
        above = roots.folder(str(home.parent), field="path")
    except PathOutsideRoots as error:
        raise PathOutsideRoots(
            "The folder is one batch of several; the others lie beside it, where nothing may be "
            "imported from. Allow the folder above, and import that",
            field="path",
        ) from error
    others = [batch.name for batch in _batches_below(above) if batch != home]
    return above, [home.name, *others]


def _batches_below(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if BATCH.fullmatch(each.name) and each.is_dir())


def _others(home: Path, known: set[str]) -> list[str]:
    """Tables that lie beside those of CheXpert."""
    names = (each.name for each in home.iterdir() if each.name.lower().endswith(SUFFIXES))
    return sorted(set(names) - known)


def _table(
    roots: Roots,
    name: str | None,
    field: str,
    needed: tuple[str, ...],
    optional: tuple[str, ...] = (),
) -> Table | None:
    if name is None:
        return None
    path: Path = roots.file(name, field=field)
    return Table(path, needed, optional=optional, blame=field)
