"""VinDr-CXR as PhysioNet ships it: DICOM files, and radiologists' labels of the whole image.

Each training image was read by three radiologists: a label is 1 where at least two of them set
it, -1 where one did, 0 where none did. The test images have one agreed reading. Counterparts:

Atelectasis, Cardiomegaly, Consolidation, Edema, Lung Opacity, Pleural effusion, Pneumothorax,
Pneumonia and No finding by name; Nodule/Mass, Lung tumor -> Lung Lesion; Pleural thickening ->
Pleural Other; Rib fracture, Clavicle fracture -> Fracture; Infiltration also -> Lung Opacity.
Support Devices and Enlarged Cardiomediastinum are blank. Views, sex and age are not in the
tables; images have no patient, so each is counted as a patient of its own.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from api_schemas.base import Split
from api_schemas.findings import ABSENT, FINDINGS, PRESENT, UNCERTAIN, Finding
from api_schemas.imports import VindrImport
from services.datasets.importers.fields import RowUnusable, UnusableValues, consistent, place, word
from services.datasets.importers.files import Roots
from services.datasets.importers.source import Entry, FileMissing
from services.datasets.importers.splits import train_or_validation
from services.datasets.importers.tables import Row, Table

IMAGE = "image_id"
COUNTERPARTS: Mapping[Finding, tuple[str, ...]] = {
    Finding.ATELECTASIS: ("Atelectasis",),
    Finding.CARDIOMEGALY: ("Cardiomegaly",),
    Finding.CONSOLIDATION: ("Consolidation",),
    Finding.EDEMA: ("Edema",),
    Finding.LUNG_OPACITY: ("Lung Opacity", "Infiltration"),
    Finding.PLEURAL_EFFUSION: ("Pleural effusion",),
    Finding.PNEUMOTHORAX: ("Pneumothorax",),
    Finding.PNEUMONIA: ("Pneumonia",),
    Finding.LUNG_LESION: ("Nodule/Mass", "Lung tumor"),
    Finding.PLEURAL_OTHER: ("Pleural thickening",),
    Finding.FRACTURE: ("Rib fracture", "Clavicle fracture"),
    Finding.NO_FINDING: ("No finding",),
}
NEEDED = (IMAGE, *(name for names in COUNTERPARTS.values() for name in names))
TABLES: Mapping[str, str] = {
    "annotations/image_labels_train.csv": "train",
    "annotations/image_labels_test.csv": "test",
}
MAJORITY = 2
SET = frozenset({"1", "1.0"})
KNOWN = SET | {"0", "0.0"}
READINGS, STRANGE, PART = "readings", "strange", "part"


class Vindr:
    """The layout of a VinDr-CXR folder; an image's line is the one of its first reading."""

    def __init__(self, request: VindrImport, roots: Roots) -> None:
        self.images = roots.folder(request.path, field="path")
        self.unusable = UnusableValues()
        self._site = request.site
        self._tables = {part: _table(roots, self.images, name) for name, part in TABLES.items()}

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        """One row an image: how many readings it has, and how many of them set each label."""
        before = 0
        for part, table in self._tables.items():
            first: dict[str, int] = {}
            votes: dict[str, Counter[str]] = {}
            last = before
            for line, row in table.rows():
                last = before + line
                if isinstance(row, list):
                    yield last, row
                    continue
                image = word(row, IMAGE)
                first.setdefault(image, last)
                count = votes.setdefault(image, Counter())
                count[READINGS] += 1
                for name in NEEDED[1:]:
                    count[name] += word(row, name) in SET
                    count[STRANGE] += word(row, name) not in KNOWN
            for image, count in votes.items():
                told = {name: str(count[name]) for name in (READINGS, STRANGE, *NEEDED[1:])}
                yield first[image], {IMAGE: image, PART: part, **told}
            before = last

    def entry(self, line: int, row: Row) -> Entry:
        image, part = place(row, IMAGE), row[PART]
        if int(row[STRANGE]):
            raise RowUnusable("a label of the image, in one of its readings, is neither 0 nor 1")
        split: Split = "test" if part == "test" else train_or_validation(self._site, image)
        labels: dict[Finding, int | None] = dict.fromkeys(FINDINGS)
        for finding, names in COUNTERPARTS.items():
            labels[finding] = _verdict(max(int(row[n]) for n in names), int(row[READINGS]))
        return Entry(
            line=line,
            place=f"{part}/{image}.dicom",
            patient=image,
            split=split,
            labels=consistent(labels),
        )

    def remarks(self) -> list[str]:
        told = [remark for table in self._tables.values() for remark in table.remarks()]
        return [*told, "the source names no patients: each image is counted as one"]


def _table(roots: Roots, folder: Path, name: str) -> Table:
    path = roots.below(folder, name)
    if path is None:
        raise FileMissing(f"the folder has no {name}", accepted=list(TABLES))
    return Table(path, NEEDED)


def _verdict(votes: int, readings: int) -> int:
    if votes >= min(MAJORITY, readings):
        return PRESENT
    return UNCERTAIN if votes else ABSENT
