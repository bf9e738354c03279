"""MIMIC-CXR with MIMIC-IV, read from small folders in exactly their layout."""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api_schemas.datasets import RejectionCode
from api_schemas.findings import Ethnicity, Finding, Race, Sex, View
from services.datasets.importers.source import (
    ColumnsMissing,
    FileMissing,
    SourceUnusable,
)
from tests.datasets import trees
from tests.datasets.reading import Read, known, opened

FIELD = Path(__file__).parents[3] / "shared" / "field"
field = pytest.mark.skipif(not FIELD.exists(), reason="no inputs from use (../shared/field)")
FIRST, OTHER = 10000032, 11000764
"""The patients of `trees.mimic`, of an image each in the views that are imported."""


def mimic(root: Path, **tables: tuple[Sequence[str], Sequence[Mapping[str, Any]]]) -> Read:
    """The folder of `trees.mimic` with these tables instead of its own.

    `patients`, `admissions` and `test_list` are only joined where they are given.
    """
    folder = trees.mimic(root)
    joined: dict[str, str] = {}
    for name, (columns, rows) in tables.items():
        path = folder / f"mimic-cxr-2.0.0-{name}.csv.gz"
        if not path.exists():
            path = root / f"{name}.csv"
            joined[name] = path.name
        trees.write(path, columns, rows)
    return opened(root, "mimic_cxr_jpg", path=folder.name, **joined)


def person(subject: object = FIRST, **facts: object) -> dict[str, object]:
    shown = {"gender": "F", "anchor_age": 52, "anchor_year": 2180}
    return {"subject_id": subject, **shown, **facts}


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


def test_columns_are_found_in_any_case(tmp_path: Path) -> None:
    source = mimic(
        tmp_path,
        patients=(
            ("SUBJECT_ID", "GENDER", "Anchor_Age", "ANCHOR_YEAR"),
            [{"SUBJECT_ID": FIRST, "GENDER": "f", "Anchor_Age": 20, "ANCHOR_YEAR": 2180}],
        ),
        admissions=(("SUBJECT_ID", "ETHNICITY"), [{"SUBJECT_ID": FIRST, "ETHNICITY": "WHITE"}]),
        split=(("DICOM_ID", "Split"), [{"DICOM_ID": "02aa804e-bde0afdd", "Split": "TEST"}]),
        chexpert=(
            [name.lower() for name in trees.MIMIC_LABELS],
            [{"study_id": 50414267, "edema": 1, "pleural effusion": "0.0"}],
        ),
    )
    (first,) = source.usable()
    assert (first.split, first.sex, first.age) == ("test", Sex.FEMALE, 20)
    assert (first.race, first.ethnicity) == (Race.WHITE, Ethnicity.NOT_HISPANIC)
    assert known(first) == {Finding.EDEMA: 1, Finding.PLEURAL_EFFUSION: 0}


@pytest.mark.parametrize(
    ("table", "column"), [("patients", "gender"), ("admissions", "race"), ("test_list", "dicom_id")]
)
def test_a_table_without_its_columns_is_refused(tmp_path: Path, table: str, column: str) -> None:
    other = (("subject_id", "hadm_id"), [{"subject_id": FIRST, "hadm_id": 1}])
    with pytest.raises(ColumnsMissing, match=rf"{table}\.csv has no column '{column}'") as refused:
        mimic(tmp_path, **{table: other})
    assert refused.value.field == table


@pytest.mark.parametrize(
    ("facts", "age", "sex", "told"),
    [
        ({"anchor_age": "20.0", "anchor_year": "2180.0"}, 20, Sex.FEMALE, None),
        ({"subject_id": f"{FIRST}.0"}, 52, Sex.FEMALE, None),
        ({"anchor_age": ""}, None, Sex.FEMALE, None),
        ({"anchor_age": "nan"}, None, Sex.FEMALE, None),
        ({"anchor_age": ">89"}, None, Sex.FEMALE, "anchor_age"),
        ({"anchor_age": "20.5"}, None, Sex.FEMALE, "anchor_age"),
        ({"anchor_year": "1980"}, None, Sex.FEMALE, "the age at the study"),
        ({"gender": "Frau"}, 52, None, "gender"),
        ({"gender": "m"}, 52, Sex.MALE, None),
    ],
)
def test_what_patients_states_is_read_or_told(
    tmp_path: Path, facts: dict[str, object], age: int | None, sex: Sex | None, told: str | None
) -> None:
    source = mimic(tmp_path, patients=(trees.MIMIC_PATIENTS, [person(**facts)]))
    first = source.usable()[0]
    assert (first.age, first.sex) == (age, sex)
    left_blank = [remark for remark in source.remarks() if "left blank" in remark]
    assert len(left_blank) == (told is not None)
    assert told is None or told in left_blank[0]


@pytest.mark.parametrize(
    ("date", "age"),
    [("21800506.0", 52), ("2180-05-06", 52), ("", None), ("6/5/2180", None), ("21801306", None)],
)
def test_an_age_needs_the_date_of_the_study(tmp_path: Path, date: str, age: int | None) -> None:
    row = {"dicom_id": "02aa804e-bde0afdd", "subject_id": FIRST, "study_id": 50414267}
    source = mimic(
        tmp_path,
        metadata=(trees.MIMIC_METADATA, [{**row, "ViewPosition": "PA", "StudyDate": date}]),
        patients=(trees.MIMIC_PATIENTS, [person()]),
    )
    assert [sample.age for sample in source.usable()] == [age]
    told = [remark for remark in source.remarks() if "StudyDate" in remark]
    assert len(told) == (age is None and bool(date))
    assert not any(date in remark for remark in told)


def test_words_for_race_that_are_not_known_are_told(tmp_path: Path) -> None:
    words = ("Whitefeather", "WHITE - RUSSIAN", "UNABLE TO OBTAIN", "Whitefeather", "")
    rows = [{"subject_id": FIRST, "race": word} for word in words]
    source = mimic(tmp_path, admissions=(trees.MIMIC_ADMISSIONS, rows))
    assert source.usable()[0].race is Race.WHITE
    told = [remark for remark in source.remarks() if "words for race" in remark]
    assert [remark.endswith("'Whitefeather' (2)") for remark in told] == [True]


def test_ethnicity_may_have_a_column_of_its_own(tmp_path: Path) -> None:
    rows = [{"subject_id": FIRST, "race": "WHITE", "ethnicity": "Hispanic or Latino"}]
    source = mimic(tmp_path, admissions=(("subject_id", "race", "ethnicity"), rows))
    first = source.usable()[0]
    assert (first.race, first.ethnicity) == (Race.WHITE, Ethnicity.HISPANIC)


def test_rows_that_contradict_each_other_leave_blanks(tmp_path: Path) -> None:
    study = {"study_id": 50414267}
    source = mimic(
        tmp_path,
        patients=(trees.MIMIC_PATIENTS, [person(), person(gender="M"), person()]),
        chexpert=(
            trees.MIMIC_LABELS,
            [{**study, "Edema": 1, "Fracture": 1}, {**study, "Edema": 0, "Fracture": 1}],
        ),
    )
    first = source.usable()[0]
    assert (first.sex, first.age) == (None, 52)
    assert known(first) == {Finding.FRACTURE: 1}
    told = source.remarks()
    assert "rows of patients.csv that contradict an earlier one, left blank there: 2" in told
    assert any("chexpert.csv.gz that contradict" in remark for remark in told)


def test_a_label_that_cannot_be_read_costs_that_label(tmp_path: Path) -> None:
    row = {"study_id": "50414267.0", "Edema": "1.00", "Fracture": "yes"}
    source = mimic(tmp_path, chexpert=(trees.MIMIC_LABELS, [row, {"study_id": ""}]))
    assert known(source.usable()[0]) == {Finding.EDEMA: 1}
    told = source.remarks()
    assert any("values of Fracture" in remark and "'yes'" in remark for remark in told)
    assert any("without a usable study_id, left out: 1" in remark for remark in told)


def test_a_split_that_is_not_known_or_said_twice_costs_the_image(tmp_path: Path) -> None:
    rows = [
        {"dicom_id": "02aa804e-bde0afdd", "split": "dev"},
        {"dicom_id": "ea030e7a-2e3b1346", "split": "train"},
        {"dicom_id": "ea030e7a-2e3b1346", "split": "test"},
    ]
    source = mimic(tmp_path, split=(trees.MIMIC_SPLIT, rows))
    assert not source.usable()
    assert [bad.line for bad in source.rejected() if "split table" in bad.reason] == [2, 4]
    assert any("values of split" in remark and "'dev'" in remark for remark in source.remarks())


def test_images_of_the_test_list_that_are_not_there_are_counted(tmp_path: Path) -> None:
    rows = [{"dicom_id": name} for name in ("02aa804e-bde0afdd", "elsewhere", "")]
    source = mimic(tmp_path, test_list=(("dicom_id", "Path"), rows))
    assert next(sample.split for sample in source.usable()) == "test"
    told = source.remarks()
    assert "images that test_list.csv names and the metadata do not: 1" in told
    assert "rows of test_list.csv without a usable dicom_id, left out: 1" in told


def test_rows_that_do_not_fit_the_header_of_a_joined_table_are_counted(tmp_path: Path) -> None:
    source = mimic(tmp_path, patients=(trees.MIMIC_PATIENTS, [person()]))
    path = tmp_path / "patients.csv"
    path.write_text(path.read_text() + f"{OTHER},M\n")
    assert [sample.sex for sample in source.usable()] == [Sex.FEMALE, None]
    told = source.remarks()
    assert "patients.csv: rows that were not read, as they do not fit the header: 1" in told


@field
def test_the_tables_from_use_are_read_as_expected() -> None:
    folder = "06_mimic_tables/mimic"

    def read(**tables: str) -> Read:
        paths = {name: f"{folder}/{table}.csv.gz" for name, table in tables.items()}
        return opened(FIELD, "mimic_cxr_jpg", path=folder, **paths)

    for admissions in ("admissions", "RACE_upper"):
        races = [sample.race for sample in read(admissions=admissions).usable()]
        assert (len(races), len(races) - races.count(None)) == (28, 14)
    for patients in ("patients", "patients_float", "patients_float_ids"):
        ages = [sample.age for sample in read(patients=patients).usable()]
        assert ages == list(range(20, 48))
    with pytest.raises(ColumnsMissing, match=r"patients\.csv\.gz has no column 'race'"):
        read(admissions="patients")
