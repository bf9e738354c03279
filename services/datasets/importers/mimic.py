"""MIMIC-CXR-JPG, and MIMIC-CXR in DICOM beside the same tables, as PhysioNet ships them.

The metadata table has a row an image; split and labels are joined by image and by study. Sex and
age come from MIMIC-IV's `patients` (the age at the study: both date shifts are the same), race
and ethnicity from its `admissions`, which ask for both in one question: a patient whose admissions
state different groups has no race, and one with an admission as Hispanic or Latino is that. No
date is kept. A study that the labeller did not see is imported with every label blank.

Columns are found however they are written. Where two rows about one study or patient differ, what
they differ on is blank.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

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
    one_of,
    quoted,
    word,
)
from services.datasets.importers.files import Roots
from services.datasets.importers.races import (
    ethnicity_of,
    ethnicity_of_one_question,
    is_known,
    race_of,
    remark_unknown_words,
)
from services.datasets.importers.source import ColumnsMissing, Entry, FileMissing
from services.datasets.importers.splits import train_or_validation
from services.datasets.importers.tables import Row, Table

METADATA = ("dicom_id", "subject_id", "study_id", "ViewPosition", "StudyDate")
SPLIT = ("dicom_id", "split")
LABELS = ("study_id", *FINDINGS)
PATIENTS = ("subject_id", "gender", "anchor_age", "anchor_year")
RACE, ETHNICITY = "race", "ethnicity"
"""Since MIMIC-IV 2.0 admissions have `race`, before they had `ethnicity`: the same question."""
FRONTAL = {"AP": View.AP, "PA": View.PA}
LATERAL = frozenset({"LATERAL", "LL"})
SUFFIXES = {"mimic_cxr_jpg": "jpg", "mimic_cxr": "dcm"}
YEAR_LIMIT = 9999

_WHOLE = re.compile(r"([0-9]{1,12})(?:\.0+)?")
_DATE = re.compile(r"([0-9]{4})(-?)(?:0[1-9]|1[0-2])\2(?:0[1-9]|[12][0-9]|3[01])(?:\.0+)?")

Labels = tuple[int | None, ...]


@dataclass(frozen=True)
class _Person:
    sex: Sex | None
    anchor_age: int | None
    anchor_year: int | None


@dataclass(frozen=True)
class _Origin:
    """What a patient's admissions say together; `several` races count as none."""

    race: Race | None = None
    several: bool = False
    ethnicity: Ethnicity | None = None

    def also(self, words: str, ethnicity: Ethnicity | None) -> "_Origin":
        """With one more admission; `ethnicity` is its ethnicity where that has a column."""
        race, said = race_of(words), ethnicity or ethnicity_of_one_question(words)
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
        self._admissions = _given(
            roots, request.admissions, "admissions", ("subject_id",), (RACE, ETHNICITY)
        )
        if self._admissions and not {RACE, ETHNICITY} & set(self._admissions.columns):
            raise ColumnsMissing(
                f"{self._admissions.name} has no column {RACE!r}",
                field="admissions",
                accepted=["subject_id", RACE, f"{ETHNICITY} instead of {RACE}"],
            )
        self._test_list = _given(roots, request.test_list, "test_list", ("dicom_id",))
        self._splits: dict[str, Split | None] = {}
        self._unmatched: set[str] = set()
        self._labelled: dict[str, Labels] = {}
        self._people: dict[str, _Person] = {}
        self._origins: dict[str, _Origin] = {}
        self._counts: Counter[str] = Counter()
        self._unknown_words: Counter[str] = Counter()

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        self._counts.clear()
        self._unknown_words.clear()
        listed = self._test_list
        self._splits = self._read_test_list(listed) if listed else self._read_splits()
        self._labelled = self._read_labels()
        self._people = self._read_people()
        self._origins = self._read_origins()
        return self._metadata.rows()

    def entry(self, line: int, row: Row) -> Entry:
        dicom, subject, study = (_needed(row, name) for name in METADATA[:3])
        view = self._view(row)
        split = self._split_of(dicom, subject)
        person = self._people.get(subject)
        origin = self._origins.get(subject, UNSTATED)
        labels = self._labelled.get(study)
        if labels is None:
            self._counts["images of studies without labels, every label blank"] += 1
        for table, known in (
            (self._patients, person),
            (self._admissions, subject in self._origins),
        ):
            if table and not known:
                self._counts[f"images whose patient is not in {table.name}"] += 1
        suffix = SUFFIXES[self._request.format]
        return Entry(
            line=line,
            place=f"p{subject[:2]}/p{subject}/s{study}/{dicom}.{suffix}",
            patient=subject,
            split=split,
            age=self._age(person, row) if person else None,
            sex=person.sex if person else None,
            race=origin.race,
            ethnicity=origin.ethnicity,
            view=view,
            labels=_consistent(labels),
        )

    def remarks(self) -> list[str]:
        tables = (
            *(self._metadata, self._split, self._labels, self._patients, self._admissions),
            self._test_list,
        )
        remarks = [remark for table in tables if table for remark in table.remarks()]
        remarks += [f"{what}: {count}" for what, count in self._counts.items()]
        if self._test_list and self._unmatched:
            remarks.append(
                f"images that {self._test_list.name} names and the metadata do not: "
                f"{len(self._unmatched)}"
            )
        remarks += remark_unknown_words(self._unknown_words, "admissions")
        several = sum(origin.several for origin in self._origins.values())
        if several:
            remarks.append(
                f"patients whose admissions name several races, counted as none: {several}"
            )
        counted = [origin.ethnicity for origin in self._origins.values()]
        if Ethnicity.NOT_HISPANIC in counted:
            remarks.append(
                "patients whose admissions name a race and never Hispanic or Latino (one question "
                f"asks for both), counted as not: {counted.count(Ethnicity.NOT_HISPANIC)}"
            )
        return remarks

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

    def _split_of(self, dicom: str, subject: str) -> Split:
        if self._test_list is not None:
            self._unmatched.discard(dicom)
            listed = dicom in self._splits
            return "test" if listed else train_or_validation(self._request.site, subject)
        if dicom not in self._splits:
            raise RowUnusable("the image is not in the split table", RejectionCode.UNLISTED)
        split = self._splits[dicom]
        if split is None:
            raise RowUnusable("the split table states no split that is known, or two")
        return split

    def _age(self, person: _Person, row: Row) -> int | None:
        said = word(row, "StudyDate")
        date = _DATE.fullmatch(said)
        if said and not date:
            shape = re.sub(r"[0-9]", "0", said)
            self.unusable.add("StudyDate", shape, "a date such as 21800506")
        if date is None or person.anchor_age is None or person.anchor_year is None:
            return None
        years = person.anchor_age + int(date[1]) - person.anchor_year
        if not 0 <= years <= AGE_LIMIT:
            accepted = f"from 0 to {AGE_LIMIT} years"
            self.unusable.add("the age at the study", f"{years} years", accepted)
            return None
        return years

    # ------------------------------------------------------------ the tables that are joined

    def _read_test_list(self, table: Table) -> dict[str, Split | None]:
        listed = {dicom for dicom, _ in self._keyed(table, "dicom_id")}
        self._unmatched = set(listed)
        return dict.fromkeys(listed, "test")

    def _read_splits(self) -> dict[str, Split | None]:
        splits: dict[str, Split | None] = {}
        for dicom, row in self._keyed(self._split, "dicom_id"):
            if word(row, "split"):
                split = one_of(row, "split", GIVEN_SPLITS, self.unusable)
                splits[dicom] = split if splits.get(dicom, split) == split else None
        return splits

    def _read_labels(self) -> dict[str, Labels]:
        """Labels by study. Equal labels are kept once."""
        once: dict[Labels, Labels] = {}
        labelled: dict[str, Labels] = {}
        for study, row in self._keyed(self._labels, "study_id"):
            labels = tuple(label(row, name, self.unusable) for name in FINDINGS)
            labels = self._agreed(labelled.get(study, labels), labels, self._labels)
            labelled[study] = once.setdefault(labels, labels)
        return labelled

    def _read_people(self) -> dict[str, _Person]:
        people: dict[str, _Person] = {}
        if self._patients is None:
            return people
        for subject, row in self._keyed(self._patients, "subject_id"):
            facts = (
                one_of(row, "gender", SEXES, self.unusable),
                self._number(row, "anchor_age", AGE_LIMIT),
                self._number(row, "anchor_year", YEAR_LIMIT),
            )
            before = people.get(subject)
            earlier = astuple(before) if before else facts
            people[subject] = _Person(*self._agreed(earlier, facts, self._patients))
        return people

    def _read_origins(self) -> dict[str, _Origin]:
        """Race and ethnicity by patient. Equal ones are kept once."""
        once: dict[_Origin, _Origin] = {}
        origins: dict[str, _Origin] = {}
        if self._admissions is None:
            return origins
        for subject, row in self._keyed(self._admissions, "subject_id"):
            answer = word(row, RACE) or word(row, ETHNICITY)
            ethnicity = ethnicity_of(word(row, ETHNICITY))
            for words in {answer, word(row, ETHNICITY)}:
                self._unknown_words[words] += not is_known(words)
            origin = origins.get(subject, UNSTATED).also(answer, ethnicity)
            origins[subject] = once.setdefault(origin, origin)
        return origins

    def _keyed(self, table: Table, column: str) -> Iterator[tuple[str, Row]]:
        """The rows of a table that is joined by `column`; counts those that cannot be."""
        for row in table.fitting():
            key = _key(row, column)
            if key is None:
                self._counts[f"rows of {table.name} without a usable {column}, left out"] += 1
            else:
                yield key, row

    def _agreed(
        self, earlier: tuple[Any, ...], later: tuple[Any, ...], table: Table
    ) -> tuple[Any, ...]:
        """What two rows agree on, None for the rest."""
        if earlier == later:
            return later
        self._counts[f"rows of {table.name} that contradict an earlier one, left blank there"] += 1
        return tuple(a if a == b else None for a, b in zip(earlier, later, strict=True))

    def _number(self, row: Row, column: str, limit: int) -> int | None:
        said = word(row, column)
        match = _WHOLE.fullmatch(said)
        if match and int(match[1]) <= limit:
            return int(match[1])
        if said:
            self.unusable.add(column, said, f"a whole number from 0 to {limit}")
        return None


def _official(roots: Roots, folder: Path, name: str, needed: tuple[str, ...]) -> Table:
    names = [f"mimic-cxr-2.0.0-{name}.csv{suffix}" for suffix in (".gz", "")]
    for each in names:
        path = roots.below(folder, each)
        if path is not None:
            return Table(path, needed)
    raise FileMissing(f"the folder has no {names[0]}", accepted=names)


def _given(
    roots: Roots,
    name: str | None,
    field: str,
    needed: tuple[str, ...],
    optional: tuple[str, ...] = (),
) -> Table | None:
    if name is None:
        return None
    return Table(roots.file(name, field=field), needed, optional=optional, blame=field)


def _key(row: Row, column: str) -> str | None:
    """An identifier, from which a path is built: nothing but letters, digits and hyphens.

    A number is the same with and without the `.0` of a column with gaps.
    """
    said = word(row, column)
    whole = _WHOLE.fullmatch(said)
    said = whole[1] if whole else said
    return said if re.fullmatch(r"[0-9A-Za-z-]{1,80}", said) else None


def _needed(row: Row, column: str) -> str:
    key = _key(row, column)
    if key is None:
        raise RowUnusable(f"{column} is no identifier")
    return key


def _consistent(labels: Labels | None) -> dict[Finding, int | None]:
    return consistent(dict(zip(FINDINGS, labels or (None,) * len(FINDINGS), strict=True)))
