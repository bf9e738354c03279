"""The paper's table of synthetic images, read in exactly its columns."""

from pathlib import Path

import numpy as np

from tests.datasets import trees
from tests.datasets.reading import opened


def test_the_papers_table_of_synthetic_images_knows_its_parents(tmp_path: Path) -> None:
    path = "CheXpert-v1.0/train/patient00003/study1/view1_frontal.jpg"
    rows = [
        {
            "Path": path,
            "PID": 3,
            "Sex": "Male",
            "Age": 41,
            "AP/PA": "AP",
            "Edema": 1,
            "Race": "White",
            "Fold": 2,
            "Seed": 1000 + 2 * n,
            "ReplicaID": n,
            "Save Path": f"patient00003-study1-view1_frontal-{1000 + 2 * n}",
        }
        for n in range(2)
    ]
    trees.write(tmp_path / "sample_seeded_data.csv", trees.SEEDED, rows)
    for row, pixels in zip(rows, trees.phantoms(2), strict=True):
        trees.save(tmp_path / "images" / f"{row['Save Path']}.png", pixels)
    source = opened(
        tmp_path,
        "paper_seeded",
        path="sample_seeded_data.csv",
        image_root="images",
        site="chexpert",
    )
    first, second = source.usable()
    assert first.place == "patient00003-study1-view1_frontal-1000.png"
    assert first.parent == "train/patient00003/study1/view1_frontal.jpg" == second.parent
    assert (first.patient, first.split, first.fold) == ("patient00003", "train", 2)
    assert (second.seed, second.replica) == (1002, 1)
    assert not source.remarks()[:-1]
    assert all(isinstance(p, np.ndarray) for p in source.pictures([first.place, second.place]))


def test_a_row_without_a_fold_is_left_to_the_hash_of_its_patient_and_counted(
    tmp_path: Path,
) -> None:
    """The paper's script would train on it: a blank is not 0."""
    rows = [
        {
            "Path": f"CheXpert-v1.0/train/patient0000{n}/study1/view1_frontal.jpg",
            "Fold": fold,
            "Seed": n,
            "ReplicaID": 0,
            "Save Path": f"image-{n}",
        }
        for n, fold in enumerate(("", 0, 3, ""))
    ]
    trees.write(tmp_path / "seeded.csv", trees.SEEDED, rows)
    source = opened(tmp_path, "paper_seeded", path="seeded.csv", site="chexpert")
    assert [entry.split for entry in source.usable()] == [None, "validation", "train", None]
    (told,) = [said for said in source.remarks() if "without a fold" in said]
    assert told.endswith("decides their split: 2")
