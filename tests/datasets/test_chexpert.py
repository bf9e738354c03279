"""CheXpert, read from small folders in exactly its layout."""

from pathlib import Path
from typing import Any

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


def batches(root: Path) -> Path:
    """The four folders of the full edition, with the images of `trees.chexpert`."""
    plain = trees.chexpert(root, "CheXpert-v1.0")
    above = root / "chexpertchestxrays-u20210408"
    first = above / "CheXpert-v1.0 batch 1 (validate & csv)"
    first.mkdir(parents=True)
    for name in ("train.csv", "valid.csv", "valid"):
        (plain / name).rename(first / name)
    for n, patient in enumerate(sorted((plain / "train").iterdir()), start=2):
        batch = above / f"CheXpert-v1.0 batch {n} (train {n - 1})"
        batch.mkdir()
        patient.rename(batch / patient.name)
    return first


@pytest.mark.parametrize("above", [False, True])
def test_the_batches_of_the_full_edition_are_one_dataset(tmp_path: Path, above: bool) -> None:
    trees.chexpert(tmp_path / "plain")
    plain = opened(tmp_path, "chexpert", path="plain/CheXpert-v1.0-small")
    first = batches(tmp_path)
    folder = first.parent if above else first
    source = opened(tmp_path, "chexpert", path=str(folder.relative_to(tmp_path)))
    samples = source.usable()
    assert samples == plain.usable()  # the same names, patients and splits, wherever they lie
    pictures = source.pictures([sample.place for sample in samples])
    assert len(pictures) == 4
    assert all(isinstance(each, np.ndarray) for each in pictures)
    assert "folders in which the images were looked for: 4" in source.remarks()


@pytest.mark.parametrize("sign", ["_", "-", "."])
@pytest.mark.parametrize("above", [False, True])
def test_batches_are_found_whatever_stands_between_the_words_of_their_names(
    tmp_path: Path, sign: str, above: bool
) -> None:
    first = batches(tmp_path)
    for batch in list(first.parent.iterdir()):
        renamed = batch.rename(batch.with_name(batch.name.replace(" ", sign).lower()))
        first = renamed if batch == first else first
    folder = first.parent if above else first
    source = opened(tmp_path, "chexpert", path=str(folder.relative_to(tmp_path)))
    pictures = source.pictures([sample.place for sample in source.usable()])
    assert [isinstance(each, np.ndarray) for each in pictures] == [True] * 4


def test_a_train_folder_beside_the_batches_is_found(tmp_path: Path) -> None:
    first = batches(tmp_path)
    for batch in first.parent.glob("*(train*"):
        for patient in list(batch.iterdir()):
            (first.parent / "train").mkdir(exist_ok=True)
            patient.rename(first.parent / "train" / patient.name)
        batch.rmdir()
    source = opened(tmp_path, "chexpert", path=str(first.relative_to(tmp_path)))
    pictures = source.pictures([sample.place for sample in source.usable()])
    assert [isinstance(each, np.ndarray) for each in pictures] == [True] * 4


@pytest.mark.parametrize("change", ["missing", "empty"])
def test_a_folder_without_validation_images_says_so(tmp_path: Path, change: str) -> None:
    folder = trees.chexpert(tmp_path)
    (folder / "valid.csv").unlink()
    if change == "empty":
        trees.write(folder / "valid.csv", trees.CHEXPERT, [])
    source = opened(tmp_path, "chexpert", path=folder.name)
    assert len(source.usable()) == 3
    told = {
        "missing": "the folder has no valid.csv: its images are missing",
        "empty": "valid.csv: has no rows below its header",
    }
    assert told[change] in source.remarks()


def test_the_columns_of_the_demographics_are_found_in_any_case(tmp_path: Path) -> None:
    folder = trees.chexpert(tmp_path)
    (folder / "d.csv").write_text("Patient,Primary Race,Ethnicity\npatient00001,White,Hispanic\n")
    demographics = f"{folder.name}/d.csv"
    first, *_ = opened(tmp_path, "chexpert", path=folder.name, demographics=demographics).usable()
    assert (first.race, first.ethnicity) == (Race.WHITE, Ethnicity.HISPANIC)


def test_one_batch_alone_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    first = batches(tmp_path)
    with pytest.raises(PathOutsideRoots, match="one batch of several"):
        opened(first, "chexpert", path=str(first))


def test_frontal_images_with_the_position_of_a_lateral_one_stay_frontal(tmp_path: Path) -> None:
    folder = trees.chexpert(tmp_path)
    table = folder / "train.csv"
    table.write_text(table.read_text().replace("Frontal,AP", "Frontal,LL"))
    source = opened(tmp_path, "chexpert", path=folder.name)
    assert [sample.view for sample in source.usable()] == [None, View.PA, None, View.AP]
    assert any(
        remark.startswith("values of AP/PA of frontal images that were left blank")
        and ": 2 ('LL')" in remark
        for remark in source.remarks()
    )


def test_tables_beside_those_of_chexpert_are_told(tmp_path: Path) -> None:
    folder = trees.chexpert(tmp_path)
    for name in ("test.csv", "CHEXPERT DEMO.csv", "train_cheXbert.csv"):
        trees.write(folder / name, trees.CHEXPERT_DEMO, [])
    demographics = f"{folder.name}/CHEXPERT DEMO.csv"
    source = opened(tmp_path, "chexpert", path=folder.name, demographics=demographics)
    told = "tables of the folder that were not asked for and not read: "
    assert f"{told}'test.csv', 'train_cheXbert.csv'" in source.remarks()


def test_a_patient_twice_in_the_demographics_is_what_all_rows_say(tmp_path: Path) -> None:
    folder = trees.chexpert(tmp_path)
    people = [
        ("patient00001", "White", "Non-Hispanic/Non-Latino"),
        ("patient00001", "", ""),
        ("patient00002", "Black or African American", "Hispanic/Latino"),
        ("patient00002", "White", "Non-Hispanic/Non-Latino"),
        ("patient00002", "Black or African American", "Hispanic/Latino"),
        ("patient00003", "nan", ""),
        ("patient00003", "Asian", "Unknown"),
        ("nan", "White", ""),
    ]
    columns = ("PATIENT", "PRIMARY_RACE", "ETHNICITY")
    lines = [dict[str, Any](zip(columns, each, strict=True)) for each in people]
    trees.write(folder / "d.csv", trees.CHEXPERT_DEMO, lines)
    with (folder / "d.csv").open("a") as file:
        file.write("patient64541,too,few\n")
    demographics = f"{folder.name}/d.csv"
    source = opened(tmp_path, "chexpert", path=folder.name, demographics=demographics)
    one, two, three, _ = source.usable()
    assert (one.race, one.ethnicity) == (Race.WHITE, Ethnicity.NOT_HISPANIC)
    assert (two.race, two.ethnicity) == (None, None)
    assert (three.race, three.ethnicity) == (Race.ASIAN, None)
    told = source.remarks()
    differing = "patients whose rows of the demographics state different"
    assert f"{differing} races, counted as none: 1" in told
    assert f"{differing} ethnicities, counted as none: 1" in told
    assert any("do not fit the header: 1" in remark for remark in told)
    assert "images whose patient is not in the demographics: 1" in told


FIELD = Path(__file__).parents[3] / "shared" / "field"


@pytest.mark.skipif(not FIELD.exists(), reason="no ../shared/field beside this tree")
@pytest.mark.parametrize("batch", ["", "/CheXpert-v1.0 batch 1 (validate & csv)"])
def test_the_layout_of_today_has_all_of_its_images(batch: str) -> None:
    folder = FIELD / "08_chexpert_batches"
    path = str(folder / f"chexpertchestxrays-u20210408{batch}")
    source = opened(folder, "chexpert", path=path)
    samples = source.usable()
    pictures = source.pictures([sample.place for sample in samples])
    assert (len(samples), source.rejected()) == (11, [])
    assert all(isinstance(each, np.ndarray) for each in pictures)


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
    lines = [dict[str, Any](zip(trees.CHEXPERT_DEMO, each, strict=True)) for each in people]
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


def test_lists_that_do_not_fit_the_tables_are_told(tmp_path: Path) -> None:
    folder = trees.chexpert(tmp_path)
    named = {1: "view1_frontal", 2: "view2_lateral", 9: "view1_frontal"}
    lists = {"tr.csv": (1, 2, 9), "ts.csv": (1,)}
    for name, patients in lists.items():
        paths = [f"train\\patient{n:05d}\\study1\\{named[n]}.jpg" for n in patients]
        trees.write(tmp_path / name, ("Path",), [{"Path": path} for path in paths])
    source = opened(tmp_path, "chexpert", path=folder.name, train_list="tr.csv", test_list="ts.csv")
    assert [sample.split for sample in source.usable()] == ["test"]
    told = source.remarks()
    assert "images that both lists name, counted as test images: 1" in told
    assert any(each.endswith("or not as usable rows: 2") for each in told)


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
