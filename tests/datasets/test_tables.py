"""CSV files as people make them, and as nobody should."""

import gzip
from pathlib import Path

import pytest

from api_schemas.findings import Finding
from services.datasets.importers import tables
from services.datasets.importers.source import ColumnsMissing, NotCsv, TableTooLarge
from services.datasets.importers.tables import LINE_LIMIT, Table


def table(tmp_path: Path, content: bytes, name: str = "t.csv", **more: object) -> Table:
    (tmp_path / name).write_bytes(content)
    return Table(tmp_path / name, ["Path", "Sex"], **more)  # pyright: ignore[reportArgumentType]


PLAIN = "Path,Sex,Note\na.png,M,Müller\nb.png,F,\n"
ROWS = [
    (2, {"Path": "a.png", "Sex": "M", "Note": "Müller"}),
    (3, {"Path": "b.png", "Sex": "F", "Note": ""}),
]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (PLAIN.encode(), []),
        (PLAIN.encode("utf-8-sig"), ["byte order mark"]),
        (PLAIN.encode("latin-1"), ["Latin-1"]),
        (PLAIN.replace(",", ";").encode(), ["semicolons"]),
        (PLAIN.replace(",", "\t").encode(), ["tabs"]),
        (PLAIN.replace("\n", "\r\n").encode(), []),
        (PLAIN.replace("Path,Sex,Note", '"Path","Sex","Note"').encode(), []),
        (
            PLAIN.replace("Path,Sex,Note", '"Path","Sex","Note"').replace(",", ";").encode(),
            ["semi"],
        ),
        (PLAIN.replace(",", ";").encode("latin-1"), ["semicolons", "Latin-1"]),
    ],
)
def test_the_same_table_is_read_however_it_is_written(
    tmp_path: Path, content: bytes, told: list[str]
) -> None:
    read = table(tmp_path, content)
    assert list(read.rows()) == ROWS
    assert len(read.remarks()) == len(told)
    for remark, word in zip(read.remarks(), told, strict=True):
        assert word in remark
        assert remark.startswith("t.csv: ")


@pytest.mark.parametrize("above", [b"   \n", b"\n\t\n", b"\xef\xbb\xbf\n", b"\xef\xbb\xbf  \r\n\n"])
def test_a_blank_line_above_the_header_makes_no_row_of_it(tmp_path: Path, above: bytes) -> None:
    read = table(tmp_path, above + PLAIN.encode())
    lines = above.count(b"\n")
    assert list(read.rows()) == [(line + lines, row) for line, row in ROWS]
    assert [row["Path"] for row in read.head(10)] == ["a.png", "b.png"]


def test_a_table_without_rows_is_told(tmp_path: Path) -> None:
    read = table(tmp_path, b"Path,Sex\n")
    assert list(read.rows()) == []
    assert read.remarks() == ["t.csv: has no rows below its header"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_another_encoding_is_refused_with_what_to_do(tmp_path: Path, encoding: str) -> None:
    content = PLAIN.replace("Müller", "“Müller”").encode(encoding)
    with pytest.raises(NotCsv, match="save it as UTF-8") as raised:
        list(table(tmp_path, content).rows())
    assert raised.value.field == "path"


def test_a_packed_table_is_read_as_the_plain_one(tmp_path: Path) -> None:
    assert list(table(tmp_path, gzip.compress(PLAIN.encode()), "t.csv.gz").rows()) == ROWS


def test_columns_in_another_order_are_found_and_told(tmp_path: Path) -> None:
    read = table(tmp_path, b"Sex,Path,Fold\nM,a.png,1\n", official=("Path", "Sex"))
    assert next(read.rows())[1] == {"Sex": "M", "Path": "a.png", "Fold": "1"}
    assert read.remarks() == ["t.csv: its columns stand in another order than the published one"]


def test_a_row_of_another_length_is_handed_on_as_it_is(tmp_path: Path) -> None:
    rows = list(table(tmp_path, b"Path,Sex\na,M,x\nb\nc,F\n").rows())
    assert rows == [(2, ["a", "M", "x"]), (3, ["b"]), (4, {"Path": "c", "Sex": "F"})]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", ColumnsMissing),
        (b"\n\n", ColumnsMissing),
        (b"\n" * 2000 + PLAIN.encode(), ColumnsMissing),
        (b'Path,Sex\n"a\n' + b'","\n' * 2000 + b'"\n', NotCsv),
        (b"Path|Sex\n", ColumnsMissing),
        (b"Path,Sex,Sex\n", NotCsv),
        (PLAIN.encode("utf-16"), NotCsv),
        ("Path,Sex\na,…\n".encode("cp1252"), NotCsv),
        (b"Path,Sex\na,\xff\x00\n", NotCsv),
        (b'Path,Sex\n"a,M\n', NotCsv),
        (b"Path,Sex\n" + b"a" * 200_000 + b",M\n", NotCsv),
        (b"Path,Sex\n" + b"a" * (LINE_LIMIT + 1), TableTooLarge),
        (b"Path,Sex" + b"a" * (LINE_LIMIT + 1), TableTooLarge),
    ],
)
def test_what_cannot_be_read_without_guessing_is_refused(
    tmp_path: Path, content: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        list(table(tmp_path, content).rows())


def test_a_packed_table_may_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "TABLE_LIMIT", 1 << 20)
    bomb = gzip.compress(b"Path,Sex\n" + b"a,M\n" * 500_000)
    assert len(bomb) < 10_000
    with pytest.raises(TableTooLarge):
        list(table(tmp_path, bomb, "t.csv.gz").rows())


def test_the_blamed_input_and_what_it_should_have_had_are_named(tmp_path: Path) -> None:
    with pytest.raises(ColumnsMissing, match="no column 'Sex'") as raised:
        table(tmp_path, b"Path,Geschlecht\n", blame="test_list")
    assert (raised.value.field, raised.value.accepted) == ("test_list", ["Path", "Sex"])


def test_findings_are_named_as_a_person_writes_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("Path,edema,EDEMA\n")
    with pytest.raises(ColumnsMissing, match=r"no column 'Fracture'"):
        Table(tmp_path / "t.csv", ["Path", Finding.FRACTURE])
    with pytest.raises(NotCsv, match=r"could be 'Edema': 'edema', 'EDEMA'"):
        Table(tmp_path / "t.csv", ["Path", Finding.EDEMA])
