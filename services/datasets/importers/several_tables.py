"""Several tables of one source as one dataset, such as its train and its test set.

Each table has a layout of its own. Lines are counted through all of them.
"""

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from api_schemas.base import Split
from api_schemas.imports import SplitTable, TablesImport
from services.datasets.importers.chexpert_csv import ChexpertCsv
from services.datasets.importers.fields import RowUnusable, UnusableValues
from services.datasets.importers.mapped import Mapped
from services.datasets.importers.source import Entry
from services.datasets.importers.splits import train_or_validation
from services.datasets.importers.tables import Row

TableLayout = ChexpertCsv | Mapped
"""The layout of one table of those formats that may have several."""


class _Part(NamedTuple):
    """One of the tables: `prefix` tells its images from those of another folder's table."""

    name: str
    prefix: str
    split: Split | None
    layout: TableLayout


class SeveralTables:
    """The layout of `tables` together; `read` makes the layout of one, given its field."""

    def __init__(
        self, request: TablesImport, read: Callable[[str, str], TableLayout], site: str
    ) -> None:
        tables = request.tables
        self._site = site
        self._parts = [
            _Part(
                posixpath.basename(table.path),
                prefix,
                table.split,
                read(table.path, f"paths.{number}.path"),
            )
            for number, (table, prefix) in enumerate(zip(tables, prefixes(request), strict=True))
        ]
        self._tested = any(table.split == "test" for table in tables)
        self.images = self._parts[0].layout.images
        self.unusable = UnusableValues()
        for part in self._parts:
            part.layout.unusable = self.unusable
        self._begins: list[int] = []
        self._now = self._parts[0]

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        self._begins, last = [], 0
        for part in self._parts:
            self._now, before = part, last
            self._begins.append(before)
            for line, row in part.layout.rows():
                last = max(last, before + line)
                yield before + line, row

    def entry(self, line: int, row: Row) -> Entry:
        part = self._now
        try:
            sample = part.layout.entry(line - self._begins[-1], row)
            split = self._split(part, sample)
        except RowUnusable as error:
            error.split = part.split or error.split
            raise
        place = part.prefix + sample.place
        patient = sample.patient
        if patient == sample.place:  # nobody else's: the image names no patient
            patient = place
        return replace(sample, line=line, place=place, patient=patient, split=split)

    def candidates(self, place: str) -> Sequence[str]:
        return [
            str(Path(part.layout.images) / place.removeprefix(part.prefix))
            for part in self._parts
            if place.startswith(part.prefix)
        ]

    def remarks(self) -> list[str]:
        told = [each for part in self._parts for each in part.layout.remarks()]
        if self._begins:
            lines = (
                f"table {number} ({part.name}) begins at line {begin + 1}"
                for number, (part, begin) in enumerate(
                    zip(self._parts, self._begins, strict=False), start=1
                )
            )
            told.append(f"lines are counted through all tables: {'; '.join(lines)}")
        return list(dict.fromkeys(told))

    # ------------------------------------------------------------ inside

    def _split(self, part: _Part, sample: Entry) -> Split | None:
        if part.split is None:
            if sample.split is None and self._tested:
                return train_or_validation(self._site, sample.patient)
            return sample.split
        if sample.split not in {None, part.split}:
            raise RowUnusable(
                f"the row states split {sample.split}, but its table was given as {part.split}"
            )
        return part.split


def prefixes(request: TablesImport) -> list[str]:
    """What stands before the places of each table's images, so that equal names of images in two
    folders are two images. Nothing where all tables look in one folder.
    """
    folders = [_folder(table) for table in request.tables]
    if getattr(request, "image_root", None) is not None or len(set(folders)) == 1:
        return [""] * len(folders)
    try:
        common = posixpath.commonpath(folders)
    except ValueError:  # absolute ones and relative ones
        common = ""
    below = (posixpath.relpath(each, common) if common else each.lstrip("/") for each in folders)
    return ["" if each in {"", "."} else f"{each}/" for each in below]


def _folder(table: SplitTable) -> str:
    return posixpath.dirname(posixpath.normpath(table.path))
