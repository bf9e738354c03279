"""CSV files of unknown honesty and unknown making, read row by row in bounded memory.

UTF-8 with or without a byte order mark, or Latin-1; commas, semicolons or tabs; plain or gzip; or
the first sheet of a workbook. What had to be guessed is said in the remarks, and what cannot be
guessed is refused.
"""

import codecs
import csv
import gzip
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from io import BufferedIOBase, BytesIO
from itertools import islice
from pathlib import Path

from services.datasets.importers.columns import Matched, match
from services.datasets.importers.fields import quoted
from services.datasets.importers.source import ColumnsMissing, FileMissing, NotCsv, TableTooLarge
from services.datasets.importers.workbooks import SUFFIX, BookUnusable, read_book

LINE_LIMIT = 1 << 20
TABLE_LIMIT = 4 << 30
BLANK_LIMIT = 1000
"""Blank lines before the header."""
RECORD_LIMIT = 1000
"""Lines of one row: fields in quotes may hold line ends, but no table of images is a book."""
BLOCK = 1 << 20
HEAD_LIMIT = 1 << 20
"""Bytes of which `Table.head` is made."""
UNREAD_TOLD = 50
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
BOM = b"\xef\xbb\xbf"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
NOT_TEXT = "the file is not UTF-8 or Latin-1 text; save it as UTF-8"
NOT_LATIN_1 = bytes({*range(0x20), *range(0x7F, 0xA0)} - set(b"\t\n\f\r"))
"""Control characters: a file that is not UTF-8 and holds one is of no guessable encoding."""

Row = dict[str, str]


class Table:
    """One CSV. Its header is read at once, its rows each time they are asked for.

    `needed` are columns without which it is none, `optional` ones that are read where they are
    there; both are found however they are written (`columns.match`), and `synonyms` are other
    names for them. `official` is the order in which the makers of the table publish its columns;
    `blame` is the input that named it. Rows have the names that were asked for. Raises
    `SourceUnusable`.
    """

    def __init__(
        self,
        path: Path,
        needed: Sequence[str],
        *,
        optional: Sequence[str] = (),
        synonyms: Mapping[str, str] | None = None,
        official: Sequence[str] = (),
        blame: str = "path",
    ) -> None:
        self._path = path
        self.name = path.name
        self._blame = blame
        self._remarks: dict[str, None] = {}
        self._known = [*needed, *optional, *official]
        self._synonyms = synonyms
        self._delimiter, matched = self._header(self._first_line(), needed)
        self.columns = matched.names
        self.renamed = matched.renamed
        self.unread = matched.unread
        if self._delimiter != ",":
            self._remark(f"its fields are separated by {DELIMITERS[self._delimiter]}")
        known = [name for name in self.columns if name in official]
        if known != [name for name in official if name in known]:
            self._remark("its columns stand in another order than the published one")

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        """Every record that is not blank, with the number of the line on which it begins.

        A record of another length than the header's comes as the list of its fields.
        """
        names, width = self.columns, len(self.columns)
        records = self._records(self._encoding())
        next(records, None)
        line = None
        for line, cells in records:
            yield line, dict(zip(names, cells, strict=True)) if len(cells) == width else cells
        if line is None:
            self._remark("has no rows below its header")

    def fitting(self) -> Iterator[Row]:
        """The records that fit the header; how many do not is said in the remarks."""
        misfits = 0
        for _, row in self.rows():
            if isinstance(row, dict):
                yield row
            else:
                misfits += 1
        if misfits:
            self._remark(f"rows that were not read, as they do not fit the header: {misfits}")

    def head(self, count: int) -> list[Row]:
        """The first rows, at most `count`, without a look at the rest of the file. Stops at what
        is not well-formed, which `rows` tells.
        """
        found: list[Row] = []
        records = self._records("latin-1", HEAD_LIMIT)
        with suppress(NotCsv):
            next(records, None)
            for _, cells in islice(records, count):
                if len(cells) == len(self.columns):
                    found.append(dict(zip(self.columns, cells, strict=True)))
        return found

    def remarks(self) -> list[str]:
        return [f"{self._path.name}: {remark}" for remark in self._remarks]

    def column_remarks(self) -> list[str]:
        """Which columns were read under other names, and which were not read."""
        told = []
        if self.renamed:
            read = ", ".join(f"{quoted(name)} as {ours}" for name, ours in self.renamed.items())
            told.append(f"{self._path.name}: columns that were read under another name: {read}")
        if self.unread:
            names = ", ".join(map(quoted, self.unread[:UNREAD_TOLD]))
            more = len(self.unread) - UNREAD_TOLD
            names += f" and {more} more" if more > 0 else ""
            told.append(f"{self._path.name}: columns that were not read: {names}")
        return told

    # ------------------------------------------------------------ how it is written

    def _remark(self, text: str) -> None:
        self._remarks[text] = None

    def _not_csv(self, why: str) -> NotCsv:
        return NotCsv(why, field=self._blame)

    def _first_line(self) -> bytes:
        with closing(self._lines()) as lines:
            upper = islice(lines, BLANK_LIMIT)
            first = next((line for line in upper if not _is_blank(line)), b"")
        if first.startswith(UTF_16) or b"\0" in first:
            raise self._not_csv(NOT_TEXT)
        return first

    def _header(self, line: bytes, needed: Sequence[str]) -> tuple[str, Matched]:
        if line.startswith(BOM):
            self._remark("begins with a byte order mark, which is left out")
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = line.decode("latin-1")
        readings = [
            (delimiter, match(cells, self._known, self._synonyms))
            for delimiter in DELIMITERS
            if (cells := _cells(text, delimiter)) is not None
        ]
        if not readings:
            raise self._not_csv("the header is not well-formed CSV")
        delimiter, matched = max(
            readings, key=lambda r: (sum(name in r[1].names for name in needed), len(r[1].names))
        )
        columns = matched.names
        missing = [name for name in needed if name not in columns]
        if missing:
            raise ColumnsMissing(
                f"{self._path.name} has no column {', '.join(map(quoted, missing))}",
                field=self._blame,
                accepted=[*map(str, needed)],
            )
        twice = sorted({name for name in columns if name and columns.count(name) > 1})
        if twice:
            raise self._not_csv(f"the header names a column twice: {', '.join(twice)}")
        for name, candidates in matched.unclear.items():
            several = ", ".join(map(quoted, candidates))
            raise self._not_csv(
                f"{self._path.name} has several columns that could be {quoted(name)}: {several}; "
                "rename all but one, or drop them"
            )
        return delimiter, matched

    def _encoding(self) -> str:
        """UTF-8 if the whole file is, else Latin-1 if nothing in it speaks against that."""
        decoder = codecs.getincrementaldecoder("utf-8")()
        utf_8 = latin_1 = True
        for block in self._chunks(lambda file: file.read(BLOCK)):
            latin_1 = latin_1 and len(block.translate(None, NOT_LATIN_1)) == len(block)
            try:
                if utf_8:
                    decoder.decode(block)
            except UnicodeDecodeError:
                utf_8 = False
            if not (utf_8 or latin_1):
                raise self._not_csv(NOT_TEXT)
        if utf_8:
            return "utf-8"
        self._remark("is not UTF-8 and was read as Latin-1")
        return "latin-1"

    # ------------------------------------------------------------ its bytes

    def _records(
        self, encoding: str, limit_bytes: int = TABLE_LIMIT
    ) -> Iterator[tuple[int, list[str]]]:
        """Every record with its line; none after `limit_bytes`."""
        before = read = 0

        def text() -> Iterator[str]:
            nonlocal read
            begun = False
            for number, line in enumerate(self._lines()):
                begun = begun or not _is_blank(line)
                read += len(line)
                if read > limit_bytes:
                    return
                if number - before > RECORD_LIMIT:
                    raise self._not_csv(f"a row of it has more than {RECORD_LIMIT} lines")
                yield line.decode(encoding) if begun else "\n"

        reader = csv.reader(text(), delimiter=self._delimiter, strict=True)
        try:
            for cells in reader:
                if cells:
                    yield before + 1, cells
                before = reader.line_num
        except csv.Error as error:
            raise self._not_csv(f"the file is not a well-formed CSV: {error}") from error
        except UnicodeDecodeError as error:  # cut off within a character
            raise self._not_csv(NOT_TEXT) from error

    def _lines(self) -> Generator[bytes]:
        for line in self._chunks(lambda file: file.readline(LINE_LIMIT + 1)):
            if len(line) > LINE_LIMIT:
                raise self._too_large(f"a line of {self._path.name}", LINE_LIMIT)
            yield line

    def _chunks(self, read: Callable[[BufferedIOBase], bytes]) -> Iterator[bytes]:
        """What `read` gives until the end; counts the bytes, for a gzip can hold any number."""
        total = 0
        try:
            with self._open() as file:
                while chunk := read(file):
                    total += len(chunk)
                    if total > TABLE_LIMIT:
                        raise self._too_large(self._path.name, TABLE_LIMIT)
                    yield chunk
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise self._not_csv(f"{self._path.name} is a damaged gzip file") from error
        except OSError as error:
            raise FileMissing(f"{self._path.name} cannot be read", field=self._blame) from error

    def _open(self) -> BufferedIOBase:
        if self._path.suffix.lower() == SUFFIX:
            return self._first_sheet()
        return gzip.open(self._path) if self._path.suffix == ".gz" else self._path.open("rb")

    def _first_sheet(self) -> BytesIO:
        try:
            book = read_book(self._path)
        except BookUnusable as error:
            raise self._not_csv(f"{self._path.name} {error}") from error
        if book.sheets > 1:
            self._remark(f"has {book.sheets} sheets, of which the first was read")
        return BytesIO(book.csv)

    def _too_large(self, what: str, limit: int) -> TableTooLarge:
        return TableTooLarge(f"{what} has more than {limit >> 20} MiB", field=self._blame)


def _is_blank(line: bytes) -> bool:
    """Whether a line above the header says nothing."""
    return not line.removeprefix(BOM).strip()


def _cells(header: str, delimiter: str) -> list[str] | None:
    """The names of a header; None where it is not well-formed with this delimiter, as a header
    whose names are all in quotes is with any but its own.
    """
    try:
        return [
            name.strip()
            for name in next(csv.reader([header], delimiter=delimiter, strict=True), [])
        ]
    except csv.Error:
        return None
