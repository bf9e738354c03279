"""PadChest as BIMCV ships it, its labels mapped to CheXpert's.

`Labels` lists terms of a tree of findings and diagnoses (`padchest_terms`). A finding is 1 where
one of its terms, or of those below them, is listed, and 0 elsewhere. It is blank, not 0, where a
term that CheXpert may count for it is listed, where the list holds a term that PadChest's tree does
not have, and where the report says nothing but that a film is unchanged. `No Finding` is 1 for
`normal`. Images that the radiologists excluded or called suboptimal are left out. Age is the
study's year less the year of birth.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath

from api_schemas.datasets import RejectionCode
from api_schemas.findings import (
    ABSENT,
    AGE_LIMIT,
    FINDINGS,
    PRESENT,
    UNCERTAIN,
    Finding,
    View,
    contradictions,
)
from api_schemas.imports import PadchestImport
from services.datasets.importers.fields import (
    SEXES_OF_DICOM,
    RowUnusable,
    UnusableValues,
    one_of,
    patient,
    place,
    quoted,
    word,
)
from services.datasets.importers.files import Roots
from services.datasets.importers.padchest_terms import (
    ANCESTORS,
    COUNTERPARTS,
    EXCLUDED,
    NORMAL,
    PARENT_FINDINGS,
    POSSIBLE,
    UNCERTAIN_TERMS,
    UNCHANGED,
    WHOLE_TERMS,
)
from services.datasets.importers.source import Entry
from services.datasets.importers.tables import Row, Table

NEEDED = (
    *("ImageID", "ImageDir", "StudyDate_DICOM", "PatientID", "PatientBirth"),
    *("PatientSex_DICOM", "Projection", "Labels"),
)
PHOTOMETRIC = "PhotometricInterpretation_DICOM"
VIEWS = {
    "PA": View.PA,
    "AP": View.AP,
    "AP_HORIZONTAL": View.AP,
    "L": View.LATERAL,
}
ONLY_UNCHANGED = frozenset({UNCHANGED})
TERMS_LISTED = 10
LISTS_KEPT = 1 << 14
"""The real table has 40,000 different lists; most images share a few thousand of them."""

_TERM = re.compile(r"""[\s,\[\](){}]*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|$)""", re.DOTALL)
_ROUNDED = re.compile(r"[0-9](?:\.[0-9]+)?[eE]\+?[0-9]+")
"""A number of 38 digits as spreadsheets write it."""
_WHOLE = re.compile(r"([0-9]+)(?:\.0+)?")
_YEAR = re.compile(r"((?:1[89]|20)[0-9]{2})(?:\.0+)?")
_DATE = re.compile(
    r"((?:1[89]|20)[0-9]{2})([-/.]?)(?:0[1-9]|1[0-2])\2(?:0[1-9]|[12][0-9]|3[01])(?:\.0+)?"
)

Labels = Mapping[Finding, int | None]


class Padchest:
    """The layout of PadChest's table; images lie in folders named by `ImageDir`, or flat."""

    def __init__(self, request: PadchestImport, roots: Roots) -> None:
        path = roots.file(request.path, field="path")
        self.images = path.parent
        if request.image_root is not None:
            self.images = roots.folder(request.image_root, field="image_root")
        self.unusable = UnusableValues()
        self._laterals = request.laterals
        self._table = Table(path, NEEDED, optional=(PHOTOMETRIC,))
        self._counts: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        self._counts.clear()
        self._unknown.clear()
        return self._table.rows()

    def entry(self, line: int, row: Row) -> Entry:
        name = patient(row, "PatientID")
        if name is None:
            raise RowUnusable("PatientID is blank")
        if _ROUNDED.fullmatch(name):
            raise RowUnusable(f"PatientID is {quoted(name)}, a rounded number that strangers share")
        view = self._view(row)
        terms = terms_of(word(row, "Labels"))
        if EXCLUDED & terms:
            raise RowUnusable("excluded by PadChest's own radiologists", RejectionCode.IMAGE)
        self._count(terms, word(row, PHOTOMETRIC))
        return Entry(
            line=line,
            place=self._place(row),
            patient=name,
            age=self._age(row),
            sex=one_of(row, "PatientSex_DICOM", SEXES_OF_DICOM, self.unusable),
            view=view,
            labels=labels_of(terms),
        )

    def remarks(self) -> list[str]:
        remarks = self._table.remarks()
        if self._unknown:
            most = self._unknown.most_common(TERMS_LISTED)
            terms = ", ".join(f"{quoted(term)} ({count})" for term, count in most)
            more = len(self._unknown) - len(most)
            remarks.append(
                "terms that PadChest's tree does not have, by the number of images that list them: "
                + terms
                + (f", and {more} more" if more else "")
            )
        return [*remarks, *(f"{what}: {count}" for what, count in self._counts.items() if count)]

    # ------------------------------------------------------------ inside

    def _place(self, row: Row) -> str:
        """In the folder that `ImageDir` names, or beside the folders if it lies there only."""
        image = place(row, "ImageID")
        number = _WHOLE.fullmatch(word(row, "ImageDir"))
        folder = number and str(int(number[1]))
        if not folder or not (self.images / folder).is_dir():
            return image
        inside = str(PurePosixPath(folder, image))
        flat = (self.images / image).is_file() and not (self.images / inside).is_file()
        return image if flat else inside

    def _view(self, row: Row) -> View:
        said = word(row, "Projection")
        view = VIEWS.get(said.upper())
        if view is None or (view is View.LATERAL and not self._laterals):
            raise RowUnusable(
                f"Projection is {quoted(said)}; only PA, AP and AP_horizontal are imported, and "
                "L if `laterals` is set",
                RejectionCode.VIEW,
            )
        return view

    def _age(self, row: Row) -> int | None:
        birth = self._year(row, "PatientBirth")
        study = self._year(row, "StudyDate_DICOM")
        if birth is None or study is None:
            return None
        if not 0 <= study - birth <= AGE_LIMIT:
            accepted = f"from 0 to {AGE_LIMIT} years"
            self.unusable.add("the age at the study", f"{study - birth} years", accepted)
            return None
        return study - birth

    def _year(self, row: Row, column: str) -> int | None:
        said = word(row, column)
        year, date = _YEAR.fullmatch(said), _DATE.fullmatch(said)
        if date and column == "PatientBirth":
            self._counts["full dates of birth, of which the year was taken"] += 1
        if said and not (year or date):
            shape = re.sub(r"[0-9]", "0", said)  # a date of birth is nothing for a note
            self.unusable.add(column, shape, "a year or a date such as 20140915")
        found = year or date
        return int(found[1]) if found else None

    def _count(self, terms: frozenset[str], photometric: str) -> None:
        unknown = terms - ANCESTORS.keys()
        self._unknown.update(unknown)
        self._counts["images that list an unknown term, their findings blank instead of 0"] += bool(
            unknown
        )
        self._counts["images of which the report says only that they are unchanged, all blank"] += (
            terms == ONLY_UNCHANGED
        )
        self._counts["images with findings beside 'normal', which was not counted"] += (
            NORMAL in terms and _contradicts_normal(terms)
        )
        if photometric and photometric.upper() != "MONOCHROME2":
            self._counts[
                f"images whose {PHOTOMETRIC} is {quoted(photometric.upper())}, imported as they "
                "are; PadChest's makers found that word often wrong, so look whether these are "
                "negatives"
            ] += 1


@lru_cache(LISTS_KEPT)
def terms_of(words: str) -> frozenset[str]:
    """The terms of a list such as `['normal']`, in small letters; raises `RowUnusable`."""
    found: list[str] = []
    end = 0
    while end < len(words):
        match = _TERM.match(words, end)
        if match is None:
            raise RowUnusable(f"Labels is {quoted(words)}, not a list of terms such as ['normal']")
        found.append(match[1] or match[2] or "")
        end = match.end()
    terms = frozenset(filter(None, (" ".join(term.lower().split()) for term in found)))
    if not terms:
        raise RowUnusable("Labels lists no term")
    return terms


@lru_cache(LISTS_KEPT)
def labels_of(terms: frozenset[str]) -> Labels:
    """CheXpert's labels of PadChest's terms; terms that the tree does not have leave blanks."""
    known = terms & ANCESTORS.keys()
    named = frozenset[str]().union(*(ANCESTORS[term] for term in known - UNCERTAIN_TERMS.keys()))
    default = None if terms != known or terms == ONLY_UNCHANGED else ABSENT
    labels: dict[Finding, int | None] = dict.fromkeys(FINDINGS, default)
    labels |= {finding: None for finding, may_be in POSSIBLE.items() if may_be & named}
    labels |= {finding: UNCERTAIN for term, finding in UNCERTAIN_TERMS.items() if term in terms}
    labels |= {finding: PRESENT for finding, counted in COUNTERPARTS.items() if counted & named}
    labels |= {finding: PRESENT for term, finding in WHOLE_TERMS.items() if term in terms}
    for finding, narrower in PARENT_FINDINGS.items():
        if labels[finding] == ABSENT and any(labels[each] for each in narrower):
            labels[finding] = None
    if contradictions({Finding.NO_FINDING, *(f for f in FINDINGS if labels[f] == PRESENT)}):
        labels[Finding.NO_FINDING] = ABSENT
    elif NORMAL in terms and terms == known and not _contradicts_normal(terms):
        labels[Finding.NO_FINDING] = PRESENT
    return labels


def _contradicts_normal(terms: frozenset[str]) -> bool:
    """Whether a list names more than normal films have: its makers drop `normal` beside findings.

    Devices may be seen on a normal film, as with CheXpert.
    """
    known = terms & ANCESTORS.keys() - {NORMAL, UNCHANGED}
    devices = COUNTERPARTS[Finding.SUPPORT_DEVICES]
    return any(not devices & ANCESTORS[term] for term in known)
