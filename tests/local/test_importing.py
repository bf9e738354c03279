"""From words on the command line to an import."""

from pathlib import Path

import pytest

from api_schemas.base import Problem
from api_schemas.imports import ChexpertImport, CsvImport, DicomImport
from services.local.demo import real_study
from services.local.importing import NotUnderstood, advice, order
from services.local.studies import NotAStudy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "CheXpert-v1.0-small"
    path.mkdir()
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "cxp_ts.csv.gz").touch()
    return path


def test_a_folder_and_its_format_are_enough(folder: Path) -> None:
    made = order("chexpert", folder, None, [], None)
    assert isinstance(made.request, ChexpertImport)
    assert (made.request.name, made.request.path) == (folder.name, str(folder))
    assert made.request.site == "chexpert"
    assert made.roots == [folder]


def test_further_fields_are_read_as_the_wire_reads_them(folder: Path) -> None:
    lists = folder.parent / "lists"
    given = ["laterals=true", "size_px=64", f"test_list={lists / 'cxp_ts.csv.gz'}"]
    made = order("chexpert", folder, "mine", given, "here")
    assert isinstance(made.request, ChexpertImport)
    assert (made.request.name, made.request.site) == ("mine", "here")
    assert (made.request.laterals, made.request.size_px) == (True, 64)
    assert made.request.test_list == str(lists / "cxp_ts.csv.gz")
    assert made.roots == [folder, lists]


def test_the_folder_of_a_table_is_allowed(folder: Path) -> None:
    (folder / "t.csv").touch()
    assert order("chexpert_csv", folder / "t.csv", None, [], "s").roots == [folder]
    assert isinstance(order("dicom", folder, None, [], "s").request, DicomImport)


def test_a_further_table_has_its_split(folder: Path) -> None:
    for name in ("train.csv", "test.csv"):
        (folder / name).touch()
    tables = [f"{folder / 'test.csv'}=test"]
    made = order("chexpert_csv", folder / "train.csv", None, [], "s", tables)
    assert isinstance(made.request, CsvImport)
    assert [(each.path, each.split) for each in made.request.tables] == [
        (str(folder / "train.csv"), None),
        (str(folder / "test.csv"), "test"),
    ]
    assert made.roots == [folder]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("test.csv", "not of the form file=split"),
        ("gone.csv=test", "there is no table gone.csv"),
        ("{folder}/test.csv=val", "split: Input should be 'train', 'validation' or 'test'"),
        ("{folder}/train.csv=test", "a table is listed twice"),
    ],
)
def test_a_further_table_that_is_none_is_told(folder: Path, word: str, told: str) -> None:
    for name in ("train.csv", "test.csv"):
        (folder / name).touch()
    with pytest.raises(NotUnderstood, match=told):
        order("chexpert_csv", folder / "train.csv", None, [], "s", [word.format(folder=folder)])


def test_a_format_of_one_table_takes_no_further_one(folder: Path) -> None:
    (folder / "test.csv").touch()
    with pytest.raises(NotUnderstood, match="paths: Extra inputs are not permitted"):
        order("nih", folder, None, [], None, [f"{folder / 'test.csv'}=test"])


@pytest.mark.parametrize("sign", [" ", "_", "-"])
def test_one_batch_of_chexpert_needs_the_folder_of_all(tmp_path: Path, sign: str) -> None:
    first = tmp_path / "CheXpert-v1.0 batch 1 (validate & csv)".replace(" ", sign)
    first.mkdir()
    assert order("chexpert", first, None, [], None).roots == [tmp_path]


def test_what_an_import_lacks_is_said_as_it_is_typed() -> None:
    problem = Problem(type="x", title="x", status=422, field="patients", accepted=["one_per_image"])
    assert advice(problem) == "Say it as --with patients=one_per_image"
    assert advice(problem.model_copy(update={"field": "body"})) == ""
    assert advice(problem.model_copy(update={"accepted": ["a", "b"]})) == ""


def test_the_demo_of_a_csv_takes_further_fields_of_its_import(folder: Path) -> None:
    (folder / "t.csv").touch()
    study = real_study(folder / "t.csv", {"patients": "one_per_image"})
    assert getattr(study.dataset("home"), "patients", None) == "one_per_image"
    with pytest.raises(NotAStudy, match="patients"):
        real_study(folder / "t.csv", {"patients": "some"})


@pytest.mark.parametrize(
    ("format_", "given", "site", "words"),
    [
        ("jpeg", [], "s", "format"),
        ("dicom", [], None, "site: Field required"),
        ("dicom", ["laterals"], "s", "'laterals' is not of the form"),
        ("dicom", ["laterals=maybe"], "s", "laterals"),
        ("dicom", ["demographics=x"], "s", "demographics"),
    ],
)
def test_what_is_no_import_says_which_word(
    folder: Path, format_: str, given: list[str], site: str | None, words: str
) -> None:
    with pytest.raises(NotUnderstood, match=words):
        order(format_, folder, None, given, site)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        order("dicom", tmp_path / "none", None, [], "s")
