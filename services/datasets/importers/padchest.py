"""PadChest as BIMCV ships it, its labels mapped to CheXpert's.

`Labels` lists terms of a tree of 174 findings; a finding of ours is 1 where one of its terms is
listed and 0 elsewhere, `No Finding` is 1 for `normal`. Images that the radiologists excluded or
called suboptimal are left out. Age is the study's year less the year of birth.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from api_schemas.datasets import RejectionCode
from api_schemas.findings import ABSENT, FINDINGS, PRESENT, Finding, View
from api_schemas.imports import PadchestImport
from services.datasets.importers.fields import (
    SEXES_OF_DICOM,
    RowUnusable,
    UnusableValues,
    age,
    consistent,
    one_of,
    patient,
    place,
    quoted,
    word,
)
from services.datasets.importers.files import Roots
from services.datasets.importers.source import Entry
from services.datasets.importers.tables import Row, Table

NEEDED = (
    *("ImageID", "ImageDir", "StudyDate_DICOM", "PatientID", "PatientBirth"),
    *("PatientSex_DICOM", "Projection", "Labels"),
)
VIEWS = {
    "PA": View.PA,
    "AP": View.AP,
    "AP_HORIZONTAL": View.AP,
    "L": View.LATERAL,
}
EXCLUDED = frozenset({"exclude", "suboptimal study"})
NORMAL = "normal"
TERMS: Mapping[Finding, str] = {
    Finding.PLEURAL_OTHER: r"pleural thickening|pleural plaques|pleural mass",
    Finding.FRACTURE: r"fracture",
    Finding.SUPPORT_DEVICES: r"tube|catheter|pacemaker|chamber device|electrical device"
    r"|artificial .*valve|reservoir|stent|endoprosthesis",
    Finding.PLEURAL_EFFUSION: r"pleural effusion|hydropneumothorax|hemothorax",
    Finding.PNEUMOTHORAX: r"pneumothorax",
    Finding.ATELECTASIS: r"atelectasis",
    Finding.PNEUMONIA: r"pneumonia",
    Finding.CONSOLIDATION: r"consolidation",
    Finding.EDEMA: r"pulmonary edema",
    Finding.LUNG_LESION: r"^nodule$|multiple nodules|pulmonary mass|^mass$",
    Finding.LUNG_OPACITY: r"infiltrates|alveolar pattern|interstitial pattern|ground glass",
    Finding.CARDIOMEGALY: r"cardiomegaly",
    Finding.ENLARGED_CARDIOMEDIASTINUM: r"mediastinal enlargement",
}


class Padchest:
    """The layout of PadChest's table; images lie in folders named by `ImageDir`, or flat."""

    def __init__(self, request: PadchestImport, roots: Roots) -> None:
        path = roots.file(request.path, field="path")
        self.images = path.parent
        if request.image_root is not None:
            self.images = roots.folder(request.image_root, field="image_root")
        self.unusable = UnusableValues()
        self._laterals = request.laterals
        self._table = Table(path, NEEDED)

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        return self._table.rows()

    def entry(self, line: int, row: Row) -> Entry:
        image = place(row, "ImageID")
        folder = word(row, "ImageDir")
        there = folder.isdecimal() and (self.images / folder).is_dir()
        number = patient(row, "PatientID")
        if number is None:
            raise RowUnusable("PatientID is blank")
        return Entry(
            line=line,
            place=str(PurePosixPath(folder, image)) if there else image,
            patient=number,
            age=_age(row, self.unusable),
            sex=one_of(row, "PatientSex_DICOM", SEXES_OF_DICOM, self.unusable),
            view=self._view(row),
            labels=labels_of(word(row, "Labels")),
        )

    def remarks(self) -> list[str]:
        return self._table.remarks()

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


def labels_of(words: str) -> dict[Finding, int | None]:
    """CheXpert's labels of PadChest's list of terms."""
    terms = [term.strip() for term in re.findall(r"'([^']*)'", words) if term.strip()]
    if not terms:
        raise RowUnusable("Labels lists no term")
    if EXCLUDED & set(terms):
        raise RowUnusable("excluded by PadChest's own radiologists", RejectionCode.IMAGE)
    labels: dict[Finding, int | None] = dict.fromkeys(FINDINGS, ABSENT)
    for finding, pattern in TERMS.items():
        if any(re.search(pattern, term) for term in terms):
            labels[finding] = PRESENT
    labels[Finding.NO_FINDING] = PRESENT if NORMAL in terms else ABSENT
    return consistent(labels)


def _age(row: Row, unusable: UnusableValues) -> int | None:
    birth, study = word(row, "PatientBirth").split(".")[0], word(row, "StudyDate_DICOM")[:4]
    if not (birth.isdecimal() and study.isdecimal()):
        return None
    return age(str(max(0, int(study) - int(birth))), "the age at the study", unusable)
