"""Workbooks are read as the CSV that a spreadsheet would save; hostile ones die alone."""

import resource
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from api_schemas.findings import Ethnicity, Race
from services.datasets.importers import workbooks
from services.datasets.importers.source import ColumnsMissing, NotCsv
from services.datasets.importers.tables import Table
from tests.datasets import books, trees
from tests.datasets.reading import opened

HEADER = ("Path", "Sex", "Age", "Note")
ROWS = [("a.png", "F", 61, "two\nlines"), ("b, c.png", "M", 47.5, True), ("d.png", None, 1e15, "ü")]
READ = [("a.png", "F", "61", "two lines"), ("b, c.png", "M", "47.5", "TRUE")]
READ += [("d.png", "", "1000000000000000", "ü")]


def table(path: Path) -> Table:
    return Table(path, ["Path", "Sex"])


@pytest.mark.parametrize("above", [0, 3])
def test_a_line_is_the_row_that_the_spreadsheet_shows(tmp_path: Path, above: int) -> None:
    path = books.write(tmp_path / "t.xlsx", [HEADER, ROWS[0], (None,) * 4, *ROWS[1:]], above=above)
    found = list(table(path).rows())
    assert [line for line, _ in found] == [above + n for n in (2, 4, 5)]
    assert [row for _, row in found] == [dict(zip(HEADER, row, strict=True)) for row in READ]


def test_a_second_sheet_is_told_and_not_read(tmp_path: Path) -> None:
    read = table(books.write(tmp_path / "t.XLSX", [HEADER, *ROWS], sheets=2))
    assert len(list(read.rows())) == 3
    assert read.remarks() == ["t.XLSX: has 2 sheets, of which the first was read"]


def test_a_workbook_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = books.write(tmp_path / "t.xlsx", [HEADER, *ROWS])
    assert len(list(table(path).rows())) == 3
    books.write(path, [HEADER, ROWS[0]])
    assert len(list(table(path).rows())) == 1


def test_chexperts_demographics_are_read_as_stanford_ships_them(tmp_path: Path) -> None:
    folder = trees.chexpert(tmp_path)
    rows = [
        trees.CHEXPERT_DEMO,
        ("patient00001", "Female", 68, "White", "Hispanic/Latino"),
        ("patient00002", "Female", 87, "Asian", None),
    ]
    books.write(folder / "CHEXPERT DEMO.xlsx", rows)
    demographics = f"{folder.name}/CHEXPERT DEMO.xlsx"
    source = opened(tmp_path, "chexpert", path=folder.name, demographics=demographics)
    first, second, *_ = source.usable()
    assert (first.race, first.ethnicity) == (Race.WHITE, Ethnicity.HISPANIC)
    assert (second.race, second.ethnicity) == (Race.ASIAN, None)


def test_a_missing_column_is_named_as_in_a_csv(tmp_path: Path) -> None:
    with pytest.raises(ColumnsMissing, match="'Sex'"):
        table(books.write(tmp_path / "t.xlsx", [("Path",), ("a.png",)]))


def no_zip(path: Path) -> None:
    path.write_bytes(b"Path,Sex\na.png,M\n")


def cut_short(path: Path) -> None:
    books.write(path, [HEADER, *ROWS])
    path.write_bytes(path.read_bytes()[:-40])


def without_sheets(path: Path) -> None:
    books.pack(path, books.parts())


def not_xml(path: Path) -> None:
    books.pack(path, books.parts("<worksheet><sheetData><row><<<"))


def of_another_kind(path: Path) -> None:
    books.pack(path, {"a.txt": "x"})


def protected(path: Path) -> None:
    """A workbook with a password is a compound file and no zip at all."""
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000))


def of_many_parts(path: Path) -> None:
    books.pack(path, {f"{n}.xml": "" for n in range(1001)})


def bomb(path: Path) -> None:
    """300 MiB of blanks in a file of 300 kB, as its directory says."""
    files = books.parts(books.sheet({(0, 0): "Path"}) + " " * (300 << 20))
    books.pack(path, files)


def lying_bomb(path: Path) -> None:
    """2 GiB of one text in 2 MB; its directory says one byte."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        head, _, tail = books.sheet({(0, 0): "#"}).partition("#")
        for name, content in books.parts("").items():
            if name != books.SHEET.format(1):
                packed.writestr(name, content)
        with packed.open(books.SHEET.format(1), "w", force_zip64=False) as member:
            member.write(head.encode())
            for _ in range(2046):
                member.write(b"x" * (1 << 20))
            member.write(tail.encode())
    content = bytearray(path.read_bytes())
    size = struct.pack("<L", len(head) + len(tail) + (2046 << 20))
    for _ in range(content.count(size)):
        at = content.index(size)
        content[at : at + 4] = struct.pack("<L", 1)
    path.write_bytes(content)


def last_cell(path: Path) -> None:
    """Two cells that span seventeen thousand million."""
    books.pack(path, books.parts(books.sheet({(0, 0): "Path", (1048575, 16383): "x"})))


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (no_zip, "damaged, or no workbook"),
        (cut_short, "damaged, or no workbook"),
        (without_sheets, "damaged, or no workbook"),
        (not_xml, "damaged, or no workbook"),
        (of_another_kind, "damaged, or no workbook"),
        (protected, "password|damaged"),
        (of_many_parts, "more than 1000 parts"),
        (bomb, "more than 256 MiB"),
        (lying_bomb, "damaged"),
        (last_cell, "damaged, or needs too much memory"),
    ],
)
def test_a_workbook_that_is_none_is_refused_by_its_reason(
    tmp_path: Path, write, reason: str
) -> None:
    path = tmp_path / "t.xlsx"
    write(path)
    assert path.stat().st_size < 16 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(NotCsv, match=rf"t\.xlsx .*({reason})") as raised:
        table(path)
    assert raised.value.field == "path"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_more_text_than_any_table_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbooks, "CSV_LIMIT", 1 << 20)
    with pytest.raises(NotCsv, match="more than 1 MiB of text"):
        table(books.write(tmp_path / "t.xlsx", [HEADER, *[("x" * 1000, "F", 1, "")] * 2000]))


def test_a_process_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbooks, "WALL_S", 0.0)
    with pytest.raises(NotCsv, match="too much memory or time"):
        table(books.write(tmp_path / "t.xlsx", [HEADER, *ROWS]))


def test_neither_the_web_nor_the_worker_is_taken_down(
    http: TestClient, ingest: Callable[..., int], import_root: Path, tmp_path: Path
) -> None:
    name = f"{uuid4().hex}.xlsx"
    last_cell(import_root / name)
    body = {"format": "chexpert_csv", "name": "x", "site": "s", "path": name}
    answer = http.post("/datasets", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "path")
    assert answer.json()["type"].endswith(":import-not-csv")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.write(import_root / name, "t.xlsx")
    sent = http.post("/uploads", content=(tmp_path / "a.zip").read_bytes()).json()["id"]
    made = http.post("/datasets", json=body | {"path": "t.xlsx", "upload": sent}).json()["id"]
    assert ingest() == 1
    job = http.get(f"/datasets/{made}").json()["job"]
    assert (job["state"], job["problem"]["field"]) == ("failed", "path")
    assert "t.xlsx is damaged" in job["problem"]["detail"]
