"""VinDr-CXR, read from small folders in exactly its layout."""

from pathlib import Path
from typing import Any

import pytest

from api_schemas.findings import Finding
from services.datasets.importers.source import (
    FileMissing,
)
from tests.datasets import trees
from tests.datasets.reading import opened


def test_vindr_counts_three_readings_as_one_label(tmp_path: Path) -> None:
    folder = tmp_path / "vindr"
    names = trees.VINDR[2:]

    def reading(image: str, reader: str, *found: str) -> dict[str, Any]:
        return {"image_id": image, "rad_id": reader, **{n: int(n in found) for n in names}}

    trees.write(
        folder / "annotations" / "image_labels_train.csv",
        trees.VINDR,
        [
            reading("a1", "R1", "Pleural effusion", "Rib fracture"),
            reading("a1", "R2", "Pleural effusion", "Nodule/Mass"),
            reading("b2", "R1", "No finding"),
            reading("a1", "R3"),
            reading("b2", "R2", "No finding"),
            reading("b2", "R3", "No finding"),
        ],
    )
    trees.write(
        folder / "annotations" / "image_labels_test.csv",
        [c for c in trees.VINDR if c != "rad_id"],
        [{k: v for k, v in reading("c3", "", "Infiltration").items() if k != "rad_id"}],
    )
    source = opened(tmp_path, "vindr", path="vindr")
    a1, b2, c3 = source.usable()
    assert (a1.place, a1.line, b2.line, c3.place) == ("train/a1.dicom", 2, 4, "test/c3.dicom")
    assert a1.labels[Finding.PLEURAL_EFFUSION] == 1
    assert a1.labels[Finding.FRACTURE] == a1.labels[Finding.LUNG_LESION] == -1
    assert a1.labels[Finding.EDEMA] == 0
    assert a1.labels[Finding.SUPPORT_DEVICES] is None
    assert b2.labels[Finding.NO_FINDING] == 1
    assert (c3.labels[Finding.LUNG_OPACITY], c3.split) == (1, "test")


def test_a_label_of_vindr_that_is_neither_0_nor_1_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "vindr" / "annotations"
    rows = [
        {"image_id": name, "rad_id": reader, **dict.fromkeys(trees.VINDR[2:], 0)}
        for name in ("a1", "b2")
        for reader in ("R1", "R2", "R3")
    ]
    rows[4]["Pleural effusion"] = "yes"
    trees.write(folder / "image_labels_train.csv", trees.VINDR, rows)
    trees.write(folder / "image_labels_test.csv", trees.VINDR, [])
    source = opened(tmp_path, "vindr", path="vindr")
    assert [each.place for each in source.usable()] == ["train/a1.dicom"]
    (bad,) = source.rejected()
    assert (bad.line, "neither 0 nor 1" in bad.reason) == (5, True)


def test_a_folder_without_annotations_is_no_vindr(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileMissing, match=r"no annotations/image_labels_train\.csv"):
        opened(tmp_path, "vindr", path="empty")
