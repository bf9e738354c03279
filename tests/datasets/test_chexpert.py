"""CheXpert, read from small folders in exactly its layout."""

from pathlib import Path

import numpy as np
import pytest

from api_schemas.datasets import RejectionCode
from api_schemas.findings import FINDINGS, Ethnicity, Finding, Race, Sex, View
from services.datasets.importers.source import (
    ColumnsMissing,
    FileMissing,
    PathOutsideRoots,
)
from tests.datasets import trees
from tests.datasets.reading import known, opened


@pytest.mark.parametrize("name", ["CheXpert-v1.0", "CheXpert-v1.0-small", "renamed"])
def test_chexpert_is_read_whatever_its_folder_is_called(tmp_path: Path, name: str) -> None:
    folder = trees.chexpert(tmp_path, "CheXpert-v1.0-small")
    source = opened(tmp_path, "chexpert", path=folder.rename(tmp_path / name).name)
    first, second, third, valid = source.usable()
    assert (first.patient, first.sex, first.age, first.view) == (
        "patient00001",
        Sex.FEMALE,
        68,
        View.AP,
    )
    assert known(first) == {Finding.NO_FINDING: 1, Finding.SUPPORT_DEVICES: 1}
    assert known(second) == {Finding.LUNG_OPACITY: -1, Finding.EDEMA: -1, Finding.FRACTURE: 1}
    assert (third.sex, third.age) == (None, None)
    assert [row.split for row in (first, second, third, valid)] == [None, None, None, "validation"]
    assert known(valid)[Finding.CARDIOMEGALY] == 1
    assert len(known(valid)) == len(FINDINGS)
    (lateral,) = source.rejected()
    assert (lateral.line, lateral.code) == (4, RejectionCode.VIEW)
    told = " ".join(source.remarks())
    assert "ages of 0" in told
    assert "line N of valid.csv is counted as line N + 5" in told
    assert valid.line == 7
    pictures = source.pictures([row.place for row in source.usable()])
    assert all(isinstance(p, np.ndarray) for p in pictures)


def test_lateral_views_are_kept_on_request(tmp_path: Path) -> None:
    folder = trees.chexpert(tmp_path)
    samples = opened(tmp_path, "chexpert", path=folder.name, laterals=True).usable()
    assert [s.view for s in samples].count(View.LATERAL) == 1
    assert len(samples) == 5


def test_chexpert_takes_race_and_ethnicity_from_the_demographics(tmp_path: Path) -> None:
    folder = trees.chexpert(tmp_path)
    people = [
        ("patient00001", "Female", 68, "White, non-Hispanic", "Non-Hispanic/Non-Latino"),
        ("patient00002", "Female", 87, "Asian", "Not Hispanic"),
        ("patient00003", "Male", 0, "Other", "Hispanic/Latino"),
        ("patient64541", "Male", 73, "Black, non-Hispanic", "Unknown"),
    ]
    lines = [dict(zip(trees.CHEXPERT_DEMO, each, strict=True)) for each in people]
    trees.write(folder / "CHEXPERT DEMO.csv", trees.CHEXPERT_DEMO, lines)
    demographics = f"{folder.name}/CHEXPERT DEMO.csv"
    source = opened(tmp_path, "chexpert", path=folder.name, demographics=demographics)
    samples = source.usable()
    races = [sample.race for sample in samples]
    assert races == [Race.WHITE, Race.ASIAN, None, Race.AFRICAN_AMERICAN]
    hispanic, not_hispanic = Ethnicity
    assert [s.ethnicity for s in samples] == [not_hispanic, not_hispanic, hispanic, not_hispanic]
    told = "of 4 patients of the demographics, 3 state one of the five races and 4 their ethnicity"
    assert told in source.remarks()
    assert not any("is not in the demographics" in remark for remark in source.remarks())


def test_images_of_nobody_in_the_demographics_are_counted(tmp_path: Path) -> None:
    folder = trees.chexpert(tmp_path)
    rows = [{"PATIENT": name, "PRIMARY_RACE": "White"} for name in ("patient00001", "2")]
    trees.write(folder / "d.csv", trees.CHEXPERT_DEMO, rows)
    demographics = f"{folder.name}/d.csv"
    source = opened(tmp_path, "chexpert", path=folder.name, demographics=demographics)
    assert [s.race for s in source.usable()] == [Race.WHITE, None, None, None]
    assert "images whose patient is not in the demographics: 3" in source.remarks()


def test_the_papers_lists_say_who_trains_and_who_tests(tmp_path: Path) -> None:
    folder = trees.chexpert(tmp_path)
    for name, number in (("cxp_tr.csv.gz", 1), ("cxp_ts.csv.gz", 3)):
        path = f"CheXpert-v1.0/train/patient{number:05d}/study1/view1_frontal.jpg"
        trees.write(tmp_path / name, ("Path", "PID"), [{"Path": path, "PID": number}])
    source = opened(
        tmp_path,
        "chexpert",
        path=folder.name,
        train_list="cxp_tr.csv.gz",
        test_list="cxp_ts.csv.gz",
    )
    one, three = source.usable()
    assert (one.patient, one.split in {"train", "validation"}) == ("patient00001", True)
    assert (three.patient, three.split) == ("patient00003", "test")
    assert [row.code for row in source.rejected()] == ["unlisted", "view", "unlisted"]


def test_a_folder_without_train_csv_is_no_chexpert(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileMissing, match=r"train\.csv"):
        opened(tmp_path, "chexpert", path="empty")


@pytest.mark.parametrize("field", ["demographics", "train_list", "test_list"])
def test_companions_of_chexpert_are_blamed_by_their_own_name(tmp_path: Path, field: str) -> None:
    folder = trees.chexpert(tmp_path)
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    for name, error in (
        ("odd.csv", ColumnsMissing),
        ("no.csv", FileMissing),
        ("/etc/passwd", PathOutsideRoots),
    ):
        with pytest.raises(error) as raised:
            opened(tmp_path, "chexpert", path=folder.name, **{field: name})
        assert raised.value.field == field
