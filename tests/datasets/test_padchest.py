"""PadChest, read from a small table in exactly its columns."""

from pathlib import Path
from typing import Any

import numpy as np

from api_schemas.findings import Finding, Sex, View
from tests.datasets import trees
from tests.datasets.reading import opened


def test_padchest_maps_its_terms(tmp_path: Path) -> None:
    shared = {"StudyDate_DICOM": 20140915, "PatientBirth": 1930.0, "PatientSex_DICOM": "F"}

    def row(number: int, projection: str, labels: str) -> dict[str, Any]:
        place = {"ImageID": f"{number}.png", "ImageDir": number, "PatientID": f"p{number}"}
        return {**shared, **place, "Projection": projection, "Labels": labels}

    rows = [
        row(0, "PA", "['pleural effusion', 'laminar atelectasis', 'nsg tube']"),
        row(1, "AP_horizontal", "['normal']"),
        row(2, "L", "['normal']"),
        row(3, "PA", "['exclude']"),
        row(4, "PA", ""),
    ]
    trees.write(tmp_path / "pc.csv", trees.PADCHEST, rows)
    trees.save(tmp_path / "0" / "0.png", trees.phantoms(1)[0].astype(np.uint16) * 257)
    source = opened(tmp_path, "padchest", path="pc.csv")
    first, healthy = source.usable()
    assert (first.place, first.age, first.sex, first.view) == ("0/0.png", 84, Sex.FEMALE, View.PA)
    positive = {f for f, v in first.labels.items() if v == 1}
    assert positive == {Finding.PLEURAL_EFFUSION, Finding.ATELECTASIS, Finding.SUPPORT_DEVICES}
    assert (healthy.view, healthy.labels[Finding.NO_FINDING]) == (View.AP, 1)
    assert [r.code for r in source.rejected()] == ["view", "image", "row"]
    assert isinstance(source.pictures([first.place])[0], np.ndarray)
