"""The paper's own table of synthetic images (`sample_seeded_data.csv`).

A row is a copy of a real image's conditions with the seed it was drawn from; the picture is
`Save Path` (`.png` is added) and the patient the one whose conditions were copied. Fold 0
validates and the others train, as in the paper. The paper's script trains on a row without a fold
too (`Fold != 0`); here the patient's hash decides, as for the real images of a source without
splits, so that copies of a patient who tests are not trained on.
"""

from collections.abc import Iterator
from dataclasses import replace

from api_schemas.imports import SeededImport
from services.datasets.importers.chexpert import inside
from services.datasets.importers.fields import (
    PATH,
    REPLICA_LIMIT,
    SEED_LIMIT,
    UnusableValues,
    entry,
    numbered_patient,
    place,
    whole,
)
from services.datasets.importers.files import Roots
from services.datasets.importers.source import Entry
from services.datasets.importers.tables import Row, Table

OFFICIAL = (
    *("Path", "PID", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding"),
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion"),
    *("Pleural Other", "Fracture", "Support Devices", "Race", "Fold"),
    *("Seed", "ReplicaID", "Save Path"),
)
SEED, REPLICA, SAVED = OFFICIAL[-3:]


class Seeded:
    """The layout of the paper's table."""

    def __init__(self, request: SeededImport, roots: Roots) -> None:
        path = roots.file(request.path, field="path")
        self.images = path.parent
        if request.image_root is not None:
            self.images = roots.folder(request.image_root, field="image_root")
        self.unusable = UnusableValues()
        self._laterals = request.laterals
        self._without_fold = 0
        self._table = Table(path, (PATH, SEED, REPLICA, SAVED), official=OFFICIAL)

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        self._without_fold = 0
        return self._table.rows()

    def entry(self, line: int, row: Row) -> Entry:
        copied = entry(line, row, self.unusable, laterals=self._laterals)
        parent = inside(copied.place)
        saved = place(row, SAVED)
        self._without_fold += copied.split is None
        return replace(
            copied,
            place=saved if saved.endswith(".png") else f"{saved}.png",
            patient=numbered_patient(parent) or copied.patient,
            seed=whole(row, SEED, SEED_LIMIT),
            replica=whole(row, REPLICA, REPLICA_LIMIT),
            parent=parent,
        )

    def remarks(self) -> list[str]:
        told = self._table.remarks()
        if self._without_fold:
            told.append(
                "rows without a fold, which the paper's script would train on; here the hash of "
                f"the patient decides their split: {self._without_fold}"
            )
        return told
