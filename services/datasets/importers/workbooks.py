"""Workbooks (xlsx) as the CSV that a spreadsheet would save.

They are opened in a process of their own (`workbook`): a cell in the last row and column of a
sheet is enough to use up any memory.
"""

import json
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from services.datasets.importers.decoders import CODE, environment

SUFFIX = ".xlsx"
WALL_S = 60.0
CSV_LIMIT = 64 << 20
KEPT = 2
"""Each shard of an import opens its tables anew."""


class BookUnusable(Exception):
    """The workbook cannot be read; the text says why, with the file as its subject."""


class Book(NamedTuple):
    """The first sheet as CSV in UTF-8, and how many there are."""

    csv: bytes
    sheets: int


def read_book(path: Path) -> Book:
    """Raises `BookUnusable`, and `OSError` where the file cannot be read."""
    about = path.stat()
    return _read(path, about.st_mtime_ns, about.st_size, about.st_ino)


@lru_cache(KEPT)
def _read(path: Path, *_version: int) -> Book:
    line, _, content = _converted(path).partition(b"\n")
    if not line:
        raise BookUnusable("is damaged, or needs too much memory or time to be read")
    told = json.loads(line)
    if "problem" in told:
        raise BookUnusable(told["problem"])
    return Book(content, told["sheets"])


def _converted(path: Path) -> bytes:
    """What the process answered; nothing, if it did not end well."""
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "services.datasets.importers.workbook", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
        cwd=CODE,
    ) as process:
        patience = threading.Timer(WALL_S, process.kill)
        patience.start()
        answer = process.stdout.read(CSV_LIMIT + 1) if process.stdout else b""
        if len(answer) > CSV_LIMIT:
            process.kill()
        process.wait()
        patience.cancel()
    if len(answer) > CSV_LIMIT:
        raise BookUnusable(f"has more than {CSV_LIMIT >> 20} MiB of text; save it as CSV")
    return answer if process.returncode == 0 else b""
