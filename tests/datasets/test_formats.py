"""The published datasets, read from small folders in exactly their layouts."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api_schemas.datasets import RejectionCode
from api_schemas.findings import FINDINGS, Ethnicity, Finding, Race, Sex, View
from services.datasets.importers.races import (
    ethnicity_of,
    ethnicity_of_one_question,
    race_of,
)
from services.datasets.importers.source import (
    ColumnsMissing,
    FileMissing,
    PathOutsideRoots,
    SourceUnusable,
)
from tests.datasets import trees
from tests.datasets.reading import known, opened

# ---------------------------------------------------------------- CheXpert


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


# ---------------------------------------------------------------- MIMIC-CXR


def test_mimic_joins_its_tables_and_mimic_iv(tmp_path: Path) -> None:
    folder = trees.mimic(tmp_path)
    hosp = {name: f"hosp/{name}.csv.gz" for name in ("patients", "admissions")}
    source = opened(tmp_path, "mimic_cxr_jpg", path=folder.name, **hosp)
    first, other = source.usable()
    assert first.place == "p10/p10000032/s50414267/02aa804e-bde0afdd.jpg"
    assert (first.patient, first.split, first.view) == ("10000032", "train", View.PA)
    assert (first.sex, first.age, first.race) == (Sex.FEMALE, 52, Race.WHITE)
    assert known(first) == {Finding.EDEMA: -1, Finding.FRACTURE: 1}
    assert (other.split, other.sex, other.age, other.race) == ("test", Sex.MALE, 88, None)
    assert known(other) == {}
    (lateral,) = source.rejected()
    assert (lateral.line, lateral.code) == (3, RejectionCode.VIEW)
    assert (first.ethnicity, other.ethnicity) == (Ethnicity.NOT_HISPANIC,) * 2
    told = source.remarks()
    assert any("counted as not: 2" in remark for remark in told)
    assert "images of studies without labels, every label blank: 1" in told
    assert "patients whose admissions name several races, counted as none: 1" in told
    pictures = source.pictures([first.place, other.place])
    assert all(isinstance(p, np.ndarray) for p in pictures)


def test_mimic_labels_by_the_other_labeller_and_without_mimic_iv(tmp_path: Path) -> None:
    folder = trees.mimic(tmp_path)
    source = opened(tmp_path, "mimic_cxr_jpg", path=folder.name, labeller="negbio", laterals=True)
    first, lateral, _ = source.usable()
    assert known(first) == {Finding.EDEMA: 0, Finding.FRACTURE: 1}
    assert (first.sex, first.age, first.race) == (None, None, None)
    assert lateral.view is View.LATERAL


def test_mimic_in_dicom_is_the_same_with_other_files(tmp_path: Path) -> None:
    folder = trees.mimic(tmp_path, suffix="dcm")
    source = opened(tmp_path, "mimic_cxr", path=folder.name)
    assert source.usable()[0].place == "p10/p10000032/s50414267/02aa804e-bde0afdd.dcm"


def test_the_papers_test_list_of_mimic_makes_the_split(tmp_path: Path) -> None:
    folder = trees.mimic(tmp_path)
    columns = ("Path", "dicom_id", "subject_id", "study_id")
    trees.write(tmp_path / "mimic_ts.csv.gz", columns, [{"dicom_id": "02aa804e-bde0afdd"}])
    source = opened(tmp_path, "mimic_cxr_jpg", path=folder.name, test_list="mimic_ts.csv.gz")
    listed, other = source.usable()
    assert listed.split == "test"
    assert other.split in {"train", "validation"}


def test_an_identifier_that_is_a_path_leads_nowhere(tmp_path: Path) -> None:
    folder = trees.mimic(tmp_path)
    trees.write(
        folder / "mimic-cxr-2.0.0-metadata.csv.gz",
        trees.MIMIC_METADATA,
        [{"dicom_id": "../../x", "subject_id": 1, "study_id": 2, "ViewPosition": "PA"}],
    )
    (bad,) = opened(tmp_path, "mimic_cxr_jpg", path=folder.name).entries()
    assert "dicom_id is no identifier" in bad.reason  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", ["metadata", "split", "chexpert"])
def test_a_missing_table_of_mimic_is_named(tmp_path: Path, name: str) -> None:
    folder = trees.mimic(tmp_path)
    (folder / f"mimic-cxr-2.0.0-{name}.csv.gz").unlink()
    with pytest.raises(FileMissing, match=f"mimic-cxr-2.0.0-{name}"):
        opened(tmp_path, "mimic_cxr_jpg", path=folder.name)


# ---------------------------------------------------------------- NIH


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


# ---------------------------------------------------------------- the paper's cohort


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


# ---------------------------------------------------------------- VinDr-CXR and PadChest


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


# ---------------------------------------------------------------- what they share


@pytest.mark.parametrize(
    ("words", "race"),
    [
        ("White", Race.WHITE),
        ("WHITE - RUSSIAN", Race.WHITE),
        ("White, Hispanic", Race.WHITE),
        ("BLACK/CAPE VERDEAN", Race.AFRICAN_AMERICAN),
        ("Black or African American", Race.AFRICAN_AMERICAN),
        ("ASIAN - ASIAN INDIAN", Race.ASIAN),
        ("Asian - Historical Conv", Race.ASIAN),
        ("AMERICAN INDIAN/ALASKA NATIVE", Race.AMERICAN_INDIAN),
        ("Native American, Hispanic", Race.AMERICAN_INDIAN),
        ("Native Hawaiian or Other Pacific Islander", Race.PACIFIC_ISLANDER),
        ("HISPANIC/LATINO - PUERTO RICAN", None),
        ("Caucasian", Race.WHITE),
        ("Other", None),
        ("UNABLE TO OBTAIN", None),
        ("White and Asian", None),
        ("", None),
    ],
)
def test_race_in_the_words_of_registries(words: str, race: Race | None) -> None:
    assert race_of(words) is race


@pytest.mark.parametrize(
    ("words", "ethnicity"),
    [
        ("Hispanic/Latino", Ethnicity.HISPANIC),
        ("Hispanic or Latino", Ethnicity.HISPANIC),
        ("HISPANIC/LATINO - PUERTO RICAN", Ethnicity.HISPANIC),
        ("White, Hispanic", Ethnicity.HISPANIC),
        ("Latina", Ethnicity.HISPANIC),
        ("Non-Hispanic/Non-Latino", Ethnicity.NOT_HISPANIC),
        ("Not Hispanic or Latino", Ethnicity.NOT_HISPANIC),
        ("Black, non-Hispanic", Ethnicity.NOT_HISPANIC),
        ("Unknown whether Hispanic or Latino", None),
        ("Patient Refused", None),
        ("White", None),
        ("", None),
    ],
)
def test_ethnicity_in_the_words_of_registries(words: str, ethnicity: Ethnicity | None) -> None:
    assert ethnicity_of(words) is ethnicity


@pytest.mark.parametrize(
    ("words", "ethnicity"),
    [
        ("HISPANIC OR LATINO", Ethnicity.HISPANIC),
        ("BLACK/CAPE VERDEAN", Ethnicity.NOT_HISPANIC),
        ("WHITE - BRAZILIAN", None),
        ("SOUTH AMERICAN", None),
        ("MULTIPLE RACE/ETHNICITY", None),
        ("UNABLE TO OBTAIN", None),
        ("OTHER", None),
    ],
)
def test_who_answers_one_question_with_a_race_is_not_hispanic(
    words: str, ethnicity: Ethnicity | None
) -> None:
    assert ethnicity_of_one_question(words) is ethnicity


def test_one_admission_as_hispanic_says_so_and_leaves_the_race(tmp_path: Path) -> None:
    folder = trees.mimic(tmp_path)
    words = ("WHITE", "HISPANIC/LATINO - CUBAN", "WHITE - RUSSIAN", "UNKNOWN")
    rows = [{"subject_id": 10000032, "hadm_id": n, "race": w} for n, w in enumerate(words)]
    trees.write(tmp_path / "a.csv", trees.MIMIC_ADMISSIONS, rows)
    source = opened(tmp_path, "mimic_cxr_jpg", path=folder.name, admissions="a.csv")
    first, other = source.usable()
    assert (first.race, first.ethnicity) == (Race.WHITE, Ethnicity.HISPANIC)
    assert (other.race, other.ethnicity) == (None, None)
    assert "images whose patient is not in a.csv: 1" in source.remarks()
    trees.write(
        tmp_path / "a.csv",
        trees.MIMIC_ADMISSIONS,
        [*rows, {"subject_id": 11000764, "hadm_id": 9, "race": "UNABLE TO OBTAIN"}],
    )
    source = opened(tmp_path, "mimic_cxr_jpg", path=folder.name, admissions="a.csv")
    assert source.usable()[1].race is None
    assert not any("not in a.csv" in remark for remark in source.remarks())


@pytest.mark.parametrize(
    "content",
    [b"\x1f\x8b\x08garbage", gzip.compress(b"a,b\n" * 999)[:30]],
    ids=["no gzip", "cut off"],
)
def test_a_damaged_gzip_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = trees.mimic(tmp_path)
    (folder / "mimic-cxr-2.0.0-split.csv.gz").write_bytes(content)
    with pytest.raises(SourceUnusable):
        opened(tmp_path, "mimic_cxr_jpg", path=folder.name).usable()
