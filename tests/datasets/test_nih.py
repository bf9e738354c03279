"""NIH ChestX-ray14, read from a small folder in exactly its layout."""

from pathlib import Path

import numpy as np
import pytest

from api_schemas.datasets import RejectionCode
from api_schemas.findings import Finding, Sex, View
from services.datasets.importers.source import NotCsv
from tests.datasets import trees
from tests.datasets.reading import opened

FIELD = Path(__file__).parents[3] / "shared" / "field"
field = pytest.mark.skipif(not FIELD.exists(), reason="no inputs from use (../shared/field)")


def change(root: Path, old: str, new: str) -> Path:
    """The folder of `trees.nih` with other words in its table."""
    folder = trees.nih(root)
    table = folder / "Data_Entry_2017_v2020.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new))
    return folder


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


@pytest.mark.parametrize("missing", ["train_val_list.txt", "test_list.txt"])
def test_one_list_says_what_the_other_would(tmp_path: Path, missing: str) -> None:
    folder = trees.nih(tmp_path)
    both = [sample.split for sample in opened(tmp_path, "nih", path=folder.name).usable()]
    (folder / missing).unlink()
    source = opened(tmp_path, "nih", path=folder.name)
    assert [sample.split for sample in source.usable()] == both
    inferred = both.count("test") if missing == "test_list.txt" else len(both) - both.count("test")
    assert any(
        told.startswith(f"{missing} is missing") and told.endswith(f": {inferred}")
        for told in source.remarks()
    )


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf00000003_000.png\r\n",
        b"images/00000003_000.png",
        b"\n00000003_000.png \n\n",
        b'"00000003_000.PNG"\n',
        b"00000003_000\n",
    ],
    ids=["byte order mark", "folder", "blanks", "quotes", "no suffix"],
)
def test_a_list_is_read_however_it_is_written(tmp_path: Path, content: bytes) -> None:
    folder = trees.nih(tmp_path)
    (folder / "test_list.txt").write_bytes(content)
    source = opened(tmp_path, "nih", path=folder.name)
    assert source.usable()[3].split == "test"
    assert not source.rejected()


@pytest.mark.parametrize(
    "content",
    [b"", b"\n \n", "00000003_000.png".encode("utf-16")],
    ids=["empty", "blank", "utf-16"],
)
def test_a_list_that_names_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = trees.nih(tmp_path)
    (folder / "test_list.txt").write_bytes(content)
    with pytest.raises(NotCsv, match=r"test_list\.txt"):
        opened(tmp_path, "nih", path=folder.name)


def test_an_image_of_both_lists_or_of_none_is_left_out(tmp_path: Path) -> None:
    folder = trees.nih(tmp_path)
    (folder / "train_val_list.txt").write_text("00000001_000.png\n00000003_000.png\nelse.png\n")
    source = opened(tmp_path, "nih", path=folder.name)
    reasons = {bad.line: (bad.code, bad.reason) for bad in source.rejected()}
    assert {line: code for line, (code, _) in reasons.items()} == dict.fromkeys(
        (3, 4, 5), RejectionCode.UNLISTED
    )
    assert "in both" in reasons[5][1]
    assert "images that train_val_list.txt names and Data_Entry_2017_v2020.csv does not: 1" in (
        source.remarks()
    )


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (",57,M", ",414,M", "values of Patient Age that were left blank"),
        (",57,M", ",-1,M", "values of Patient Age that were left blank"),
        (",57,M", ",57,X", "values of Patient Gender that were left blank"),
        ("57,M,PA", "57,M,up", "values of View Position that were left blank"),
        ("Patient Gender", "Gender?", "no sex is known"),
    ],
)
def test_a_value_that_is_not_known_costs_only_itself(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    source = opened(tmp_path, "nih", path=change(tmp_path, old, new).name)
    first = source.usable()[0]
    assert None in (first.age, first.sex, first.view)
    assert first.labels[Finding.CARDIOMEGALY] == 1
    assert any(told in remark for remark in source.remarks())


def test_labels_are_read_in_any_case_and_with_blanks(tmp_path: Path) -> None:
    folder = change(tmp_path, "Nodule|Pleural_Thickening", "nodule | Pleural Thickening")
    labels = opened(tmp_path, "nih", path=folder.name).usable()[3].labels
    assert labels[Finding.LUNG_LESION] == labels[Finding.PLEURAL_OTHER] == 1


def test_one_patient_is_one_whether_a_number_has_a_point_or_not(tmp_path: Path) -> None:
    folder = change(tmp_path, "Effusion|Infiltration,1,1,", "Effusion|Infiltration,1,1.0,")
    patients = [sample.patient for sample in opened(tmp_path, "nih", path=folder.name).usable()]
    assert patients[:2] == ["00000001"] * 2


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (",0,2,80", ",0,nan,80", "Patient ID is blank"),
        ("57,M,PA", "57,M,LL", "lateral"),
        ("57,M,PA", "57,M,LAO", "oblique"),
        ("No Finding,0", ",0", "Finding Labels is blank"),
        ("No Finding,0", "No Finding|Mass,0", "beside 'No Finding'"),
    ],
)
def test_what_decides_about_an_image_costs_the_image(
    tmp_path: Path, old: str, new: str, told: str
) -> None:
    (bad,) = opened(tmp_path, "nih", path=change(tmp_path, old, new).name).rejected()
    assert told in bad.reason


@field
@pytest.mark.parametrize("name", ["nih_only_test", "nih_only_train", "nih_lists"])
def test_the_lists_from_use_are_read_as_expected(name: str) -> None:
    source = opened(FIELD, "nih", path=f"07_nih_lists/{name}")
    splits = [sample.split for sample in source.usable()]
    assert splits[:2] == ["test", "test"]
    assert len(splits) == 12
    assert "test" not in splits[2:]


@field
def test_the_ages_from_use_cost_no_image() -> None:
    source = opened(FIELD, "nih", path="12_one_word_loses_image/nih_ages")
    ages = [sample.age for sample in source.usable()]
    assert ages == [58, 58, None, None, None, 0, 1, 0, None, None, 58, 95, None, 120, None]
    assert any("Patient Age" in told and ": 5 (" in told for told in source.remarks())
