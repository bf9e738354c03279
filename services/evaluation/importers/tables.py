"""CSV and Parquet files as columns that remember where each row stood."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from api_schemas.missing import is_missing
from services.evaluation.importers.faults import Faulty
from services.evaluation.importers.parquet import read_bounded
from services.evaluation.statistics.cases import Bools, Floats, Ints

PARQUET_MAGIC = b"PAR1"
CELL_LIMIT = 500
"""Characters of a cell."""
COLUMN_LIMIT, NAME_LIMIT = 200, 100
"""Columns of a CSV, and characters of the name of one."""
DELIMITERS = ",;\t"
AT_ONCE = 20_000


@dataclass(frozen=True, eq=False)
class Table:
    """Columns, and the line of each row: of a Parquet file the number of the row, from 1."""

    columns: pl.DataFrame
    lines: Ints

    @property
    def names(self) -> list[str]:
        return self.columns.columns

    def line(self, bad: Bools) -> int | None:
        """Where the first row is of which this holds."""
        places = np.flatnonzero(bad)
        return int(self.lines[places[0]]) if len(places) else None

    def refuse(self, bad: Bools, detail: str, column: str) -> None:
        """Raise `Faulty` for the first row of which `bad` holds."""
        line = self.line(bad)
        if line is not None:
            raise Faulty(detail, column=column, line=line)

    def identifiers(self, column: str) -> pl.Series:
        """A column that names patients. Raises `Faulty` where no name stands, or a word that
        programs write for a missing value: it would make one patient of strangers.
        """
        found = self.texts(column, required=True)
        missing = np.fromiter(map(is_missing, found), np.bool_, len(found))
        self.refuse(missing, "It says that the value is missing, which identifies nobody", column)
        return found

    def texts(self, column: str, *, required: bool) -> pl.Series:
        """A column as text, blank where nothing stands. Raises `Faulty`."""
        try:
            found = self.columns[column].cast(pl.String)
        except pl.exceptions.PolarsError as error:
            raise Faulty("It cannot be read as text", column=column) from error
        found = found.fill_null("").str.strip_chars()
        if required:
            self.refuse((found == "").to_numpy(), "It is blank", column)
        too_long = found.str.len_chars() > CELL_LIMIT
        self.refuse(too_long.to_numpy(), f"It has more than {CELL_LIMIT} characters", column)
        return found

    def numbers(self, column: str) -> tuple[Floats, Bools]:
        """A column as numbers, and where it is blank. Raises `Faulty`."""
        given = self.columns[column]
        if given.dtype == pl.String:
            given = given.str.strip_chars()
            given = given.set(given == "", None)
        blank = given.is_null()
        try:
            found = given.cast(pl.Float64, strict=False)
        except pl.exceptions.PolarsError as error:
            raise Faulty("It does not hold numbers", column=column) from error
        self.refuse((found.is_null() & ~blank).to_numpy(), "It is not a number", column)
        return found.fill_null(0.0).to_numpy(), blank.to_numpy()


def read_table(path: Path) -> Table:
    """A CSV (UTF-8; commas, semicolons or tabs) or Parquet file. Raises `Faulty`."""
    with path.open("rb") as file:
        parquet = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    table = _read_parquet(path) if parquet else _read_csv(path)
    if not table.columns.height:
        raise Faulty("It has no rows")
    if any(len(name) > NAME_LIMIT for name in table.names):
        raise Faulty(f"A column's name has more than {NAME_LIMIT} characters")
    return table


def _read_parquet(path: Path) -> Table:
    try:
        frame = pl.from_arrow(read_bounded(path))
    except pl.exceptions.PolarsError as error:
        raise Faulty("It is a damaged Parquet file") from error
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a table gives a frame
    return Table(frame, np.arange(1, frame.height + 1))


def _read_csv(path: Path) -> Table:
    _check_text(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        delimiter = max(DELIMITERS, key=header.count)
        file.seek(0)
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            names = _names(next(reader, []))
            return _gathered(names, _records(reader, len(names)))
        except csv.Error as error:
            raise Faulty("It is not well-formed CSV", line=reader.line_num) from error


def _check_text(path: Path) -> None:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise Faulty("It is not UTF-8 text", line=number, accepted=["UTF-8"]) from error


def _names(header: list[str]) -> list[str]:
    names = [name.strip() for name in header]
    if len(names) > COLUMN_LIMIT:
        raise Faulty(f"It has more than {COLUMN_LIMIT} columns", line=1)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise Faulty("A column stands there twice", column=twice[0][:CELL_LIMIT], line=1)
    return names


def _records(reader: Any, width: int) -> Iterator[tuple[int, list[str]]]:
    before = reader.line_num
    for cells in reader:
        if cells:
            if len(cells) != width:
                raise Faulty(f"It has {len(cells)} cells, the header {width}", line=before + 1)
            yield before + 1, cells
        before = reader.line_num


def _gathered(names: list[str], records: Iterator[tuple[int, list[str]]]) -> Table:
    parts: list[pl.DataFrame] = []
    lines: list[int] = []
    while some := list(islice(records, AT_ONCE)):
        lines += [line for line, _ in some]
        columns = zip(*(cells for _, cells in some), strict=True)
        parts.append(
            pl.DataFrame(
                [
                    pl.Series(name, each, pl.String)
                    for name, each in zip(names, columns, strict=True)
                ]
            )
        )
    frame = pl.concat(parts) if parts else pl.DataFrame(schema=dict.fromkeys(names, pl.String))
    return Table(frame, np.array(lines, np.int64))
