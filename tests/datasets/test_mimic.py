"""MIMIC-CXR with MIMIC-IV, read from small folders in exactly their layout."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from api_schemas.datasets import RejectionCode
from api_schemas.findings import Ethnicity, Finding, Race, Sex, View
from services.datasets.importers.source import (
    FileMissing,
    SourceUnusable,
)
from tests.datasets import trees
from tests.datasets.reading import known, opened


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
