"""From words on the command line to an import."""

from pathlib import Path

import pytest

from api_schemas.imports import ChexpertImport, DicomImport
from services.local.importing import NotUnderstood, order


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
