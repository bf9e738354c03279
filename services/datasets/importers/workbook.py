"""The process that opens workbooks: `python -m services.datasets.importers.workbook PATH`.

It has no secret in its environment, limits on memory and processor time, and may write no file.
It answers with a line of JSON: the `problem`, or how many `sheets` there are and then the first of
them as CSV, in which line N is row N of the sheet.
"""

import csv
import datetime as dt
import json
import resource
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from python_calamine import CalamineError, CalamineWorkbook, PasswordError

MEMORY_BYTES = 1 << 30
CPU_S = 30
UNPACKED_LIMIT = 256 << 20
MEMBERS_LIMIT = 1000
DAMAGED = "is damaged, or no workbook"

Cell = int | float | str | bool | dt.date | dt.time | dt.timedelta


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    sys.stdout.reconfigure(encoding="utf-8")  # pyright: ignore[reportAttributeAccessIssue] - typed as TextIO
    path = Path(sys.argv[1])
    problem = _oversized(path)
    if problem is None:
        try:
            book = CalamineWorkbook.from_path(path)
            sheet = book.get_sheet_by_index(0)
            sys.stdout.write(json.dumps({"sheets": len(book.sheet_names)}) + "\n")
            _write(sheet.iter_rows(), sys.stdout)
        except PasswordError:
            problem = "is protected by a password"
        except (CalamineError, IndexError):
            problem = DAMAGED
    if problem is not None:
        sys.stdout.write(json.dumps({"problem": problem}) + "\n")


def _oversized(path: Path) -> str | None:
    """Why a workbook is not to be unpacked, by its zip directory."""
    try:
        with zipfile.ZipFile(path) as packed:
            members = packed.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return DAMAGED
    if len(members) > MEMBERS_LIMIT:
        return f"has more than {MEMBERS_LIMIT} parts"
    if sum(member.file_size for member in members) > UNPACKED_LIMIT:
        return f"has more than {UNPACKED_LIMIT >> 20} MiB when it is unpacked"
    return None


def _write(rows: Iterable[list[Cell]], sink: TextIO) -> None:
    writer = csv.writer(sink, lineterminator="\n")
    for row in rows:
        cells = [_text(cell) for cell in row]
        writer.writerow(cells if any(cells) else [])


def _text(cell: Cell) -> str:
    """As a spreadsheet would save it: whole numbers without a point, no line ends within."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return " ".join(str(cell).split())


if __name__ == "__main__":
    main()
