"""VinDr-CXR as PhysioNet ships it: DICOM files, and radiologists' labels of the whole image.

Each training image was read by three radiologists: a finding is 1 where more than half of them set
one of its labels, -1 where fewer did, 0 where none did. The test images have one agreed reading.
Counterparts:

Atelectasis, Cardiomegaly, Consolidation, Edema, Lung Opacity, Pleural effusion, Pneumothorax,
Pneumonia and No finding by name; Nodule/Mass, Lung tumor -> Lung Lesion; Pleural thickening ->
Pleural Other; Rib fracture, Clavicle fracture -> Fracture; Infiltration also -> Lung Opacity.
Support Devices and Enlarged Cardiomediastinum are blank. Views, sex and age are not in the
tables; images have no patient, so each is counted as a patient of its own.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from api_schemas.base import Split
from api_schemas.findings import ABSENT, FINDINGS, PRESENT, UNCERTAIN, Finding
from api_schemas.imports import VindrImport
from services.datasets.importers.fields import (
    RowUnusable,
    UnusableValues,
    consistent,
    label,
    patient,
    place,
    word,
)
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
READERS: Mapping[str, int] = {"train": 3, "test": 1}
READER = "rad_id"
PART = "part"


@dataclass
class _Readings:
    """What was read of one image: by reader, the findings that this person set."""

    line: int
    by_reader: dict[str, set[Finding]] = field(default_factory=dict[str, set[Finding]])
    undecided: set[Finding] = field(default_factory=set[Finding])
    """Findings that a reading calls neither 0 nor 1, or that one person's readings differ on."""

    def row(self, image: str, part: str) -> Row:
        """One row an image, with the verdict on each finding; blank where that stays open."""
        votes = Counter(finding for found in self.by_reader.values() for finding in found)
        verdicts = {finding: self._verdict(finding, votes[finding]) for finding in COUNTERPARTS}
        return {IMAGE: image, PART: part, **verdicts}

    def _verdict(self, finding: Finding, votes: int) -> str:
        if 2 * votes > len(self.by_reader):
            return str(PRESENT)
        if finding in self.undecided:
            return ""
        return str(UNCERTAIN if votes else ABSENT)


class Vindr:
    """The layout of a VinDr-CXR folder; an image's line is the one of its first reading."""

    def __init__(self, request: VindrImport, roots: Roots) -> None:
        self.images = roots.folder(request.path, field="path")
        self.unusable = UnusableValues()
        self._site = request.site
        self._tables = {part: _table(roots, self.images, name) for name, part in TABLES.items()}
        self._counts: Counter[str] = Counter()

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        """One row an image, with the verdict of its readers on each finding."""
        self._counts.clear()
        before = 0
        for part, table in self._tables.items():
            readings: dict[str, _Readings] = {}
            last = before
            for line, row in table.rows():
                last = before + line
                image = "" if isinstance(row, list) else self._image(row)
                if isinstance(row, list) or not image:
                    yield last, row
                    continue
                reading = readings.setdefault(image, _Readings(last))
                self._read(reading, row, f"line {last}" if part == "train" else "")
            for image, read in readings.items():
                if len(read.by_reader) != READERS[part]:
                    self._counts[
                        f"images of {table.name} with {len(read.by_reader)} instead of "
                        f"{READERS[part]} readers, of whom more than half decide"
                    ] += 1
                yield read.line, read.row(image, part)
            before = last

    def entry(self, line: int, row: Row) -> Entry:
        image, part = place(row, IMAGE), row[PART]
        split: Split = "test" if part == "test" else train_or_validation(self._site, image)
        labels: dict[Finding, int | None] = dict.fromkeys(FINDINGS)
        labels |= {finding: int(row[finding]) for finding in COUNTERPARTS if row[finding]}
        return Entry(
            line=line,
            place=f"{part}/{image}.dicom",
            patient=image,
            split=split,
            labels=consistent(labels),
        )

    def remarks(self) -> list[str]:
        remarks = [remark for table in self._tables.values() for remark in table.remarks()]
        remarks += [f"{what}: {count}" for what, count in self._counts.items()]
        return [*remarks, "the source names no patients: each image is counted as one"]

    def _image(self, row: Row) -> str:
        """The one name of an image; nothing where it is not usable, which `entry` tells."""
        try:
            return place(row, IMAGE).removesuffix(".dicom")
        except RowUnusable:
            return ""

    def _read(self, read: _Readings, row: Row, nameless: str) -> None:
        """Adds one reading; `nameless` is its reader where the row names none."""
        reader = patient(row, READER)
        if nameless and not reader:
            self._counts["readings without rad_id, each counted as another person's"] += 1
        reader = reader or nameless
        found = set[Finding]()
        for finding, names in COUNTERPARTS.items():
            values = {name: label(row, name, self.unusable) for name in names}
            for name in names:
                if values[name] == UNCERTAIN:
                    self.unusable.add(name, word(row, name), "0 or 1")
            if PRESENT in values.values():
                found.add(finding)
            elif set(values.values()) != {ABSENT}:
                read.undecided.add(finding)
        if reader in read.by_reader:
            self._counts["readings by somebody who had read the image before, counted as one"] += 1
            read.undecided |= read.by_reader[reader] ^ found
            found &= read.by_reader[reader]
        read.by_reader[reader] = found


def _table(roots: Roots, folder: Path, name: str) -> Table:
    path = roots.below(folder, name)
    if path is None:
        raise FileMissing(f"the folder has no {name}", accepted=list(TABLES))
    return Table(path, NEEDED, optional=(READER,))
