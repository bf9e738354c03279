"""CheXpert-style CSV: one row an image, the columns of the CheXpert tables.

Only `Path` is required; a missing column is blank in every row. A column `Split` (train,
validation, test) or else `Fold` (0 is validation, every other fold train) brings the source's
own split; where neither says anything, patients are split by a stable hash. A patient keeps the
first split its rows state; a later row that states another is rejected.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from api_schemas.base import Split
from api_schemas.datasets import CsvImport
from services.datasets.importers.chexpert_fields import (
    PATH,
    Row,
    RowUnusable,
    entry,
    names_patient,
)
from services.datasets.importers.files import Roots, read_limited
from services.datasets.importers.images import FILE_LIMIT_BYTES, prepare
from services.datasets.importers.source import (
    Entry,
    FileMissing,
    NoPathColumn,
    NotCsv,
    Pixels,
    Rejected,
    Unreadable,
)


@dataclass
class _Seen:
    """What earlier rows said, against which a later one is checked."""

    places: dict[str, int] = field(default_factory=dict[str, int])
    splits: dict[str, Split] = field(default_factory=dict[str, Split])
    nameless: int = 0

    def accept(self, sample: Entry) -> None:
        """Raises `RowUnusable` for a repeated picture or a patient of two splits."""
        first = self.places.get(sample.place)
        if first is not None:
            raise RowUnusable(f"the same Path as line {first}")
        stated = self.splits.get(sample.patient)
        if sample.split is not None and stated not in {None, sample.split}:
            raise RowUnusable(f"split {sample.split}, but the patient is in {stated} above")
        self.places[sample.place] = sample.line
        if sample.split is not None:
            self.splits[sample.patient] = sample.split


class ChexpertCsv:
    """The rows and pictures of one CSV. Raises `SourceUnusable` when made of an unusable one."""

    def __init__(self, request: CsvImport, roots: Roots) -> None:
        self._size_px = request.size_px
        self._roots = roots
        self._table = roots.file(request.path, field="path")
        self._pictures_root = self._table.parent
        if request.image_root is not None:
            self._pictures_root = roots.folder(request.image_root, field="image_root")
        self._remarks: list[str] = []
        self._columns = self._header()

    def entries(self) -> Iterator[Entry | Rejected]:
        seen = _Seen()
        for line, cells in islice(_records(self._table), 1, None):
            try:
                row = self._row(cells)
                sample = entry(line, row)
                seen.accept(sample)
            except RowUnusable as error:
                yield Rejected(line, str(error))
                continue
            seen.nameless += not names_patient(row)
            yield sample
        self._remarks = self._told(seen)

    def pictures(self, places: Sequence[str]) -> Iterator[Pixels | Unreadable]:
        for place in places:
            yield self._picture(place)

    def remarks(self) -> list[str]:
        return self._remarks

    def inscription(self) -> dict[str, str]:
        return {}

    def _told(self, seen: _Seen) -> list[str]:
        told: list[str] = []
        if seen.nameless:
            told.append(
                "images that name no patient (neither PID nor patientNNN in Path), each counted "
                f"as a patient of its own: {seen.nameless}"
            )
        if seen.splits:
            column = "Split" if "Split" in self._columns else "Fold"
            told.append(f"the column {column} states the split of {len(seen.splits)} patients")
        return told

    def _header(self) -> list[str]:
        header = next(_records(self._table), (1, []))[1]
        columns = [name.strip() for name in header]
        if PATH not in columns:
            raise NoPathColumn(f"the CSV has no column '{PATH}'")
        twice = sorted({name for name in columns if name and columns.count(name) > 1})
        if twice:
            raise NotCsv(f"the header names a column twice: {', '.join(twice)}")
        return columns

    def _row(self, cells: list[str]) -> Row:
        if len(cells) != len(self._columns):
            msg = f"{len(cells)} fields under a header of {len(self._columns)}"
            raise RowUnusable(msg)
        return dict(zip(self._columns, cells, strict=True))

    def _picture(self, place: str) -> Pixels | Unreadable:
        path = self._roots.below(self._pictures_root, place)
        if path is None:
            return Unreadable("the image is missing or lies outside the import folders")
        try:
            content = read_limited(path, FILE_LIMIT_BYTES)
        except OSError:
            return Unreadable("the image file cannot be read")
        if content is None:
            return Unreadable(f"the image file has more than {FILE_LIMIT_BYTES // 2**20} MiB")
        return prepare(content, self._size_px)


def _records(table: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV that are not blank, each with the number of the line it begins on."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            before = 0
            for cells in reader:
                if cells:
                    yield before + 1, cells
                before = reader.line_num
    except UnicodeDecodeError as error:
        raise NotCsv("the file is not UTF-8 text") from error
    except csv.Error as error:
        raise NotCsv(f"the file is not a well-formed CSV: {error}") from error
    except OSError as error:
        raise FileMissing("the CSV cannot be read") from error
