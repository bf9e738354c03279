"""NIH ChestX-ray14, read from a small folder in exactly its layout."""

from pathlib import Path

import numpy as np

from api_schemas.findings import Finding, Sex, View
from tests.datasets import trees
from tests.datasets.reading import opened


def test_nih_maps_its_labels_as_documented(tmp_path: Path) -> None:
    source = opened(tmp_path, "nih", path=trees.nih(tmp_path).name)
    heart, effusion, healthy, nodule = source.usable()
    assert (heart.patient, heart.sex, heart.age, heart.view) == ("00000001", Sex.MALE, 57, View.PA)
    labels = {
        Finding.CARDIOMEGALY: (1, 0, 0, 0),
        Finding.PLEURAL_EFFUSION: (0, 1, 0, 0),
        Finding.LUNG_OPACITY: (None, 1, 0, None),
        Finding.LUNG_LESION: (0, 0, 0, 1),
        Finding.PLEURAL_OTHER: (None, None, 0, 1),
        Finding.NO_FINDING: (0, 0, 1, 0),
        Finding.PNEUMONIA: (0, 0, 0, 0),
        Finding.FRACTURE: (None,) * 4,
        Finding.SUPPORT_DEVICES: (None,) * 4,
        Finding.ENLARGED_CARDIOMEDIASTINUM: (None,) * 4,
    }
    for finding, values in labels.items():
        assert tuple(s.labels[finding] for s in (heart, effusion, healthy, nodule)) == values
    assert (nodule.age, nodule.split) == (74, "test")
    assert heart.split == effusion.split != "test"
    assert not source.rejected()
    pictures = source.pictures([s.place for s in source.usable()])
    assert all(isinstance(p, np.ndarray) for p in pictures)


def test_nih_without_lists_leaves_the_split_open(tmp_path: Path) -> None:
    folder = trees.nih(tmp_path)
    for name in ("train_val_list.txt", "test_list.txt"):
        (folder / name).unlink()
    assert {s.split for s in opened(tmp_path, "nih", path=folder.name).usable()} == {None}


def test_an_unknown_label_of_nih_is_reported(tmp_path: Path) -> None:
    folder = trees.nih(tmp_path)
    table = folder / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("No Finding", "Gout|Hernia"))
    (bad,) = opened(tmp_path, "nih", path=folder.name).rejected()
    assert (bad.line, "'Gout'" in bad.reason) == (4, True)
