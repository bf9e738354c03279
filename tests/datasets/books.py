"""Workbooks (xlsx) for tests, honest and not: the few parts that a reader needs."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

TYPES = "application/vnd.openxmlformats"
SHEET = "xl/worksheets/sheet{}.xml"
XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"

Cell = str | int | float | bool | None


def column(number: int) -> str:
    """A, B, ..., Z, AA, ..."""
    letters = ""
    while number >= 0:
        letters = chr(ord("A") + number % 26) + letters
        number = number // 26 - 1
    return letters


def cell(place: str, value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, int | float):
        return f'<c r="{place}"><v>{value}</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'


def sheet(cells: Mapping[tuple[int, int], Cell]) -> str:
    """A sheet by (row, column), from 0."""
    rows: dict[int, str] = {}
    for (row, col), value in sorted(cells.items()):
        rows[row] = rows.get(row, "") + cell(f"{column(col)}{row + 1}", value)
    data = "".join(f'<row r="{row + 1}">{content}</row>' for row, content in rows.items())
    return f'{XML}<worksheet xmlns="{MAIN}"><sheetData>{data}</sheetData></worksheet>'


def parts(*sheets: str) -> dict[str, str]:
    """The files of a workbook with these sheets."""
    numbers = range(1, len(sheets) + 1)
    listed = "".join(f'<sheet name="S{n}" sheetId="{n}" r:id="rId{n}"/>' for n in numbers)
    led = "".join(
        f'<Relationship Id="rId{n}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in numbers
    )
    relations = f'<Relationships xmlns="{PACKAGE}/relationships">'
    return {
        "[Content_Types].xml": f'{XML}<Types xmlns="{PACKAGE}/content-types">'
        '<Default Extension="xml" ContentType="application/xml"/></Types>',
        "_rels/.rels": f'{XML}{relations}<Relationship Id="rId1" Type="{OFFICE}/officeDocument" '
        'Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'{XML}<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}">'
        f"<sheets>{listed}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f"{XML}{relations}{led}</Relationships>",
        **{SHEET.format(n): content for n, content in zip(numbers, sheets, strict=True)},
    }


def pack(path: Path, files: Mapping[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def write(path: Path, rows: Sequence[Sequence[Cell]], *, above: int = 0, sheets: int = 1) -> Path:
    """A workbook whose first sheet holds `rows`, below so many empty ones."""
    cells = {(above + r, c): v for r, row in enumerate(rows) for c, v in enumerate(row)}
    return pack(path, parts(sheet(cells), *[sheet({(0, 0): "other"})] * (sheets - 1)))
