"""MIMIC-CXR-JPG, and MIMIC-CXR in DICOM beside the same tables, as PhysioNet ships them.

The metadata table has a row an image; split and labels are joined by image and by study. Sex and
age come from MIMIC-IV's `patients` (the age at the study: both date shifts are the same), race
and ethnicity from its `admissions`, which ask for both in one question: a patient whose admissions
state different groups has no race, and one with an admission as Hispanic or Latino is that. No
date is kept. A study that the labeller did not see is imported with every label blank.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from api_schemas.base import Split
from api_schemas.datasets import RejectionCode
from api_schemas.findings import AGE_LIMIT, FINDINGS, Ethnicity, Finding, Race, Sex, View
from api_schemas.imports import MimicImport
from services.datasets.importers.fields import (
    GIVEN_SPLITS,
    SEXES,
    RowUnusable,
    UnusableValues,
    consistent,
    label,
    quoted,
    word,
)
from services.datasets.importers.files import Roots
from services.datasets.importers.races import ethnicity_of_one_question, race_of
from services.datasets.importers.source import Entry, FileMissing
from services.datasets.importers.splits import train_or_validation
from services.datasets.importers.tables import Row, Table

METADATA = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate")
SPLIT = ("dicom_id", "split")
LABELS = ("study_id", *FINDINGS)
PATIENTS = ("subject_id", "gender", "anchor_age", "anchor_year")
FRONTAL = {"AP": View.AP, "PA": View.PA}
LATERAL = frozenset({"LATERAL", "LL"})
SUFFIXES = {"mimic_cxr_jpg": "jpg", "mimic_cxr": "dcm"}

Labels = tuple[int | None, ...]


@dataclass(frozen=True)
class _Person:
    sex: Sex | None
    anchor_age: int | None
    anchor_year: int | None

    def age(self, date: str) -> int | None:
        if self.anchor_age is None or self.anchor_year is None or not date[:4].isdigit():
            return None
        years = self.anchor_age + int(date[:4]) - self.anchor_year
        return years if 0 <= years <= AGE_LIMIT else None


@dataclass(frozen=True)
class _Origin:
    """What a patient's admissions say together; `several` races count as none."""

    race: Race | None = None
    several: bool = False
    ethnicity: Ethnicity | None = None

    def also(self, words: str) -> "_Origin":
        """With one more admission."""
        race, said = race_of(words), ethnicity_of_one_question(words)
        together = self
        if race is not None and self.race is not race and not self.several:
            several = self.race is not None
            together = replace(self, race=None if several else race, several=several)
        if said is not None and self.ethnicity is not Ethnicity.HISPANIC:
            together = replace(together, ethnicity=said)
        return together


UNSTATED = _Origin()


class Mimic:
    """The layout of a MIMIC-CXR folder."""

    def __init__(self, request: MimicImport, roots: Roots) -> None:
        folder = roots.folder(request.path, field="path")
        files = folder / "files"
        self.images = files if files.is_dir() else folder
        self.unusable = UnusableValues()
        self._request = request
        self._metadata = _official(roots, folder, "metadata", METADATA)
        self._split = _official(roots, folder, "split", SPLIT)
        self._labels = _official(roots, folder, request.labeller, LABELS)
        self._patients = _given(roots, request.patients, "patients", PATIENTS)
        self._admissions = _given(roots, request.admissions, "admissions", ("subject_id",))
        self._test_list = _given(roots, request.test_list, "test_list", ("dicom_id",))
        self._splits: Mapping[str, Split] = {}
        self._labelled: Mapping[str, Labels] = {}
        self._people: Mapping[str, _Person] = {}
        self._origins: Mapping[str, _Origin] = {}
        self._unlabelled = self._ageless = self._originless = 0

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        self._unlabelled = self._ageless = self._originless = 0
        self._splits = self._read_splits()
        self._labelled = _read_labels(self._labels, self.unusable)
        self._people = _read_people(self._patients)
        self._origins = _read_origins(self._admissions)
        return self._metadata.rows()

    def entry(self, line: int, row: Row) -> Entry:
        dicom, subject, study = (_key(row, name) for name in METADATA[:3])
        person = self._people.get(subject)
        origin = self._origins.get(subject, UNSTATED)
        labels = self._labelled.get(study)
        self._unlabelled += labels is None
        self._ageless += person is None
        self._originless += subject not in self._origins
        suffix = SUFFIXES[self._request.format]
        return Entry(
            line=line,
            place=f"p{subject[:2]}/p{subject}/s{study}/{dicom}.{suffix}",
            patient=subject,
            split=self._split_of(dicom, subject),
            age=person.age(word(row, "StudyDate")) if person else None,
            sex=person.sex if person else None,
            race=origin.race,
            ethnicity=origin.ethnicity,
            view=self._view(row),
            labels=_consistent(labels),
        )

    def remarks(self) -> list[str]:
        tables = (self._metadata, self._split, self._labels, self._patients, self._admissions)
        told = [remark for table in tables if table for remark in table.remarks()]
        if self._unlabelled:
            told.append(f"images of studies without labels, every label blank: {self._unlabelled}")
        for table, missing in (
            (self._patients, self._ageless),
            (self._admissions, self._originless),
        ):
            if table and missing:
                told.append(f"images whose patient is not in {table.name}: {missing}")
        several = sum(origin.several for origin in self._origins.values())
        if several:
            told.append(f"patients whose admissions name several races, counted as none: {several}")
        counted = [origin.ethnicity for origin in self._origins.values()]
        if Ethnicity.NOT_HISPANIC in counted:
            told.append(
                "patients whose admissions name a race and never Hispanic or Latino (one question "
                f"asks for both), counted as not: {counted.count(Ethnicity.NOT_HISPANIC)}"
            )
        return told

    # ------------------------------------------------------------ inside

    def _view(self, row: Row) -> View:
        said = word(row, "ViewPosition").upper()
        if said in FRONTAL:
            return FRONTAL[said]
        if said in LATERAL and self._request.laterals:
            return View.LATERAL
        raise RowUnusable(
            f"ViewPosition is {quoted(said)}; only AP and PA are imported, and LATERAL and LL "
            "if `laterals` is set",
            RejectionCode.VIEW,
        )

    def _read_splits(self) -> dict[str, Split]:
        if self._test_list is not None:
            rows = self._test_list.rows()
            return {word(row, "dicom_id"): "test" for _, row in rows if isinstance(row, dict)}
        splits: dict[str, Split] = {}
        for _, row in self._split.rows():
            if isinstance(row, dict):
                split = GIVEN_SPLITS.get(word(row, "split").lower())
                if split is not None:
                    splits[word(row, "dicom_id")] = split
        return splits

    def _split_of(self, dicom: str, subject: str) -> Split:
        listed = self._splits.get(dicom)
        if listed is None and self._test_list is not None:
            return train_or_validation(self._request.site, subject)
        if listed is None:
            raise RowUnusable("the image is not in the split table", RejectionCode.UNLISTED)
        return listed


def _official(roots: Roots, folder: Path, name: str, needed: tuple[str, ...]) -> Table:
    names = [f"mimic-cxr-2.0.0-{name}.csv{suffix}" for suffix in (".gz", "")]
    for each in names:
        path = roots.below(folder, each)
        if path is not None:
            return Table(path, needed)
    raise FileMissing(f"the folder has no {names[0]}", accepted=names)


def _given(roots: Roots, name: str | None, field: str, needed: tuple[str, ...]) -> Table | None:
    if name is None:
        return None
    return Table(roots.file(name, field=field), needed, blame=field)


def _key(row: Row, column: str) -> str:
    """An identifier, from which a path is built: nothing but letters, digits and hyphens."""
    said = word(row, column)
    if not re.fullmatch(r"[0-9A-Za-z-]{1,80}", said):
        raise RowUnusable(f"{column} is no identifier")
    return said


def _read_labels(table: Table, unusable: UnusableValues) -> dict[str, Labels]:
    """Labels by study. Equal labels are kept once."""
    once: dict[Labels, Labels] = {}
    labelled: dict[str, Labels] = {}
    for _, row in table.rows():
        if isinstance(row, dict):
            labels = tuple(label(row, name, unusable) for name in FINDINGS)
            labelled[word(row, "study_id")] = once.setdefault(labels, labels)
    return labelled


def _read_people(table: Table | None) -> dict[str, _Person]:
    people: dict[str, _Person] = {}
    for _, row in table.rows() if table else ():
        if isinstance(row, dict):
            numbers = (word(row, name) for name in ("anchor_age", "anchor_year"))
            years = [int(number) if number.isdecimal() else None for number in numbers]
            people[word(row, "subject_id")] = _Person(
                SEXES.get(word(row, "gender").lower()), *years
            )
    return people


def _read_origins(table: Table | None) -> dict[str, _Origin]:
    """Race and ethnicity by patient. Equal ones are kept once."""
    if table is None:
        return {}
    column = next((c for c in ("race", "ethnicity") if c in table.columns), "race")
    once: dict[_Origin, _Origin] = {}
    origins: dict[str, _Origin] = {}
    for _, row in table.rows():
        if isinstance(row, dict):
            subject = word(row, "subject_id")
            origin = origins.get(subject, UNSTATED).also(word(row, column))
            origins[subject] = once.setdefault(origin, origin)
    return origins


def _consistent(labels: Labels | None) -> dict[Finding, int | None]:
    return consistent(dict(zip(FINDINGS, labels or (None,) * len(FINDINGS), strict=True)))
