"""Any hospital's CSV, by a mapping file that says what its columns and values are.

The mapping translates a row into the words of a CheXpert-style CSV; everything after that, and
every check, is the same. A value that the mapping does not list is kept as it is written.
"""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from api_schemas.findings import FINDINGS
from api_schemas.imports import MappedImport
from api_schemas.missing import is_missing
from services.datasets.importers.columns import COLUMNS
from services.datasets.importers.combining import Combination, CombinedRows
from services.datasets.importers.fields import (
    DECISIVE,
    EXAMPLES,
    PATH,
    RowUnusable,
    UnusableValues,
    entry,
    patient,
    place,
    quoted,
    slashed,
)
from services.datasets.importers.files import Roots, read_limited
from services.datasets.importers.patients import LOOKED_AT, PatientNames
from services.datasets.importers.source import (
    Entry,
    FileMissing,
    MappingUnusable,
    PathOutsideRoots,
)
from services.datasets.importers.tables import Row, Table

SHIPPED = Path(__file__).parent / "mappings"
SIZE_LIMIT = 1 << 15
BRACKETS_LIMIT = 1000
"""Time grows with the square of their depth."""
WORDS_KEPT = 1024
Words = Annotated[str, StringConstraints(max_length=200)]


class Column(BaseModel):
    """One column of ours: where its words come from, and what they mean."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    source: Words = Field(alias="from", min_length=1)
    values: dict[Words, Words] = {}
    otherwise: Words | None = None
    """What a word that `values` does not list means; without it the word stays. A blank is no
    word, nor is what says that a value is missing (`NA`, `nan`, ...), unless `values` lists it.
    """
    pattern: Annotated[str, StringConstraints(max_length=200)] | None = None
    """A regular expression; its one group is the word. In the language of Rust's `regex`, which
    takes linear time: with Python's, one row of a hostile mapping lasts for ever.
    """

    folder: Words = ""
    """Of `Path`: where the pictures lie, below the folder of images."""
    suffix: Words = ""
    """Of `Path`: what is missing at the end of the name, such as `.dcm`."""
    search: bool = False
    """Of `Path`: the column has a name only, and the picture lies anywhere below `folder`."""

    def read(self, row: Row, name: str, unusable: UnusableValues) -> str:
        """Raises `RowUnusable` where the row cannot do without this column."""
        said = row[self.source].strip()
        if is_missing(said):
            return self._meant(said) or ""
        if self.pattern is not None:
            found = pl.Series([said[:1000]]).str.extract(self.pattern)[0]
            if found is None and name in DECISIVE:
                raise RowUnusable(f"{self.source}, read as {name}, does not fit its pattern")
            if found is None:
                unusable.add(self.source, said, f"of the pattern for {name}")
                return ""
            said = found
        meant = self._meant(said)
        if meant is not None:
            return meant
        return said if self.otherwise is None else self.otherwise

    def lists(self, said: str) -> bool:
        """Whether `values` has the word."""
        return self._meant(said) is not None

    def _meant(self, said: str) -> str | None:
        """What `values` says of a word: as it is written, or else however it is written."""
        exact = self.values.get(said)
        return self._folded.get(folded(said)) if exact is None else exact

    @cached_property
    def _folded(self) -> dict[str, str]:
        """`values` without case and the like; not words that then mean several things."""
        meanings: dict[str, set[str]] = {}
        for word, meant in self.values.items():
            meanings.setdefault(folded(word), set()).add(meant)
        return {word: meant.pop() for word, meant in meanings.items() if len(meant) == 1}

    @property
    def completes_path(self) -> bool:
        return bool(self.folder or self.suffix or self.search)

    def path(self, word: str) -> str:
        """Where the picture lies of which the column says `word`."""
        if not word:
            return word
        end = "" if word.lower().endswith(self.suffix.lower()) else self.suffix
        return posixpath.join(self.folder, word + end)


class SeveralRows(BaseModel):
    """How several rows of one image (boxes, readings) become one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    combine: Combination
    reader: Words | None = None
    """The column that says whose reading a row is; without it each row is one of its own."""


class ColumnMapping(BaseModel):
    """A mapping file: our columns by name. `Path` is needed, each other may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: dict[Words, Column]
    rows: SeveralRows | None = None

    @property
    def sources(self) -> list[str]:
        """The columns of the table that are read."""
        names = dict.fromkeys(column.source for column in self.columns.values())
        if self.rows is not None and self.rows.reader is not None:
            names[self.rows.reader] = None
        return list(names)

    @property
    def path(self) -> Column:
        return self.columns[PATH]


class UnlistedWords:
    """Words that become an `otherwise`, and that no column of the mapping lists: perhaps another
    spelling of one that it does list. Counted by the column of the table.
    """

    def __init__(self, mapping: ColumnMapping) -> None:
        self._readers: dict[str, list[Column]] = {}
        for column in mapping.columns.values():
            if column.otherwise is not None and column.pattern is None:
                self._readers.setdefault(column.source, []).append(column)
        self.clear()

    def clear(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, dict[str, None]] = {}

    def add(self, row: Row) -> None:
        for source, columns in self._readers.items():
            said = row[source].strip()
            if is_missing(said) or any(column.lists(said) for column in columns):
                continue
            self._counts[source] += 1
            examples = self._examples.setdefault(source, {})
            if len(examples) < EXAMPLES:
                examples[quoted(said)] = None

    def remarks(self) -> list[str]:
        return [
            f"values of {source} that the mapping does not list, read as its `otherwise` says: "
            f"{count} ({', '.join(self._examples[source])})"
            for source, count in self._counts.items()
        ]


class Mapped:
    """The layout of one table under one mapping."""

    def __init__(self, request: MappedImport, roots: Roots, table: str, field: str) -> None:
        """`table` is the place of the table, `field` the input that named it."""
        path = roots.file(table, field=field)
        self.images = path.parent
        if request.image_root is not None:
            self.images = roots.folder(request.image_root, field="image_root")
        self.unusable = UnusableValues()
        self._laterals = request.laterals
        self._mapping = read_mapping(_text(request.mapping, roots))
        self._table = Table(path, self._mapping.sources, blame=field)
        self._files: Mapping[str, Sequence[str]] | None = None
        self._unlisted = UnlistedWords(self._mapping)
        self._told: list[str] = []
        self._refused: dict[int, RowUnusable] = {}
        self._patients = PatientNames(request.patients)
        head = list(self._head())
        self.unusable.clear()
        self._patients.require(list(self._mapping.columns), head)
        self._searched: Path | None = None
        if request.images and self._mapping.path.search:
            self._searched = self._searched_folder(roots)
        elif request.images and head:
            self._look_for(roots, head)

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        self._patients.clear()
        self._unlisted.clear()
        self._files = None if self._searched is None else _files(self._searched)
        if self._mapping.rows is None:
            return self._table.rows()
        return self._combined(self._mapping.rows)

    def entry(self, line: int, row: Row) -> Entry:
        if line in self._refused:
            raise self._refused[line]
        ours = row if self._mapping.rows else self._translated(row)
        sample = entry(line, ours, self.unusable, laterals=self._laterals)
        self._patients.check(ours)
        return sample

    def remarks(self) -> list[str]:
        told = [*self._table.remarks(), *self._table.column_remarks(), *self._patients.remarks()]
        if not any(finding in self._mapping.columns for finding in FINDINGS):
            told.append("the mapping has no column of a finding: every label is blank")
        return [*told, *self._unlisted.remarks(), *self._told]

    # ------------------------------------------------------------ inside

    def _searched_folder(self, roots: Roots) -> Path:
        folder = self._mapping.path.folder
        try:
            return roots.folder(str(self.images / folder), field="mapping")
        except PathOutsideRoots as error:
            raise FileMissing(
                f"columns.{PATH}.folder: there is no {quoted(folder)} below the folder of images",
                field="mapping",
            ) from error

    def _translated(self, row: Row) -> Row:
        columns = self._mapping.columns.items()
        ours = {name: column.read(row, name, self.unusable) for name, column in columns}
        self._unlisted.add(row)
        ours[PATH] = slashed(self._mapping.path.path(ours[PATH]))
        if self._files is not None and ours[PATH]:
            ours[PATH] = self._found(ours[PATH])
        return ours

    def _found(self, path: str) -> str:
        """The path of the one file of this name below the folder that is searched. Folders before
        the name must be those of the file as well.
        """
        folder = posixpath.normpath(self._mapping.path.folder or ".")
        wanted = posixpath.relpath(posixpath.normpath(path), folder)
        named = (self._files or {}).get(posixpath.basename(wanted), ())
        found = [wanted] if wanted in named else [f for f in named if f.endswith(f"/{wanted}")]
        if len(found) > 1:
            raise RowUnusable("several files below the folder of images have this name")
        return posixpath.join(folder, found[0]) if found else path

    def _combined(self, rows: SeveralRows) -> Iterator[tuple[int, Row | list[str]]]:
        """One row an image, on the line of its first; those that cannot be read as they are."""
        self._refused, self._told = {}, []
        images: dict[str, CombinedRows] = {}
        count = 0
        for line, row in self._table.rows():
            if isinstance(row, list):
                yield line, row
                continue
            try:
                ours = self._translated(row)
                ours[PATH] = place(ours, PATH)
                reader = (rows.reader and patient(row, rows.reader)) or f"line {line}"
                image = images.setdefault(ours[PATH], CombinedRows(line))
                image.add(ours, reader, self.unusable)
            except RowUnusable as error:
                self._refused[line] = error
                yield line, row
                continue
            count += 1
        for image in images.values():
            try:
                yield image.line, image.combined(rows.combine, self.unusable)
            except RowUnusable as error:
                self._refused[image.line] = error
                yield image.line, {}
        told = f"rows of {len(images)} images, combined ({rows.combine}): {count}"
        self._told.append(f"{self._table.name}: {told}")

    def _head(self) -> Iterator[Row]:
        for row in self._table.head(LOOKED_AT):
            with suppress(RowUnusable):
                yield self._translated(row)

    def _look_for(self, roots: Roots, head: list[Row]) -> None:
        """Tell before the import begins when the pictures are not where they should be."""
        if not any(roots.below(self.images, row[PATH]) for row in head):
            told = f"none of the images of the first {len(head)} rows was found"
            add = "the mapping can add `folder` and `suffix` to Path, or `search` for its name"
            self._told = [f"{told}; {add}"]


@lru_cache(WORDS_KEPT)
def folded(word: str) -> str:
    """A word without case, doubled blanks and the `.0` of a whole number."""
    plain = " ".join(word.casefold().split())
    return re.sub(r"^([+-]?[0-9]+)\.0*$", r"\1", plain)


def shipped() -> list[str]:
    """The names of the mappings that come with the suite."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def read_mapping(text: str) -> ColumnMapping:
    """Raises `MappingUnusable`, naming the place in the file."""
    if text.count("[") + text.count("{") > BRACKETS_LIMIT:
        raise MappingUnusable("the file has more brackets than any mapping", field="mapping")
    try:
        _check_plain(text)
        mapping = ColumnMapping.model_validate(yaml.load(text, _Words))  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError) as error:
        raise MappingUnusable("the file is not YAML", field="mapping") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise MappingUnusable(f"{where}: {first['msg']}", field="mapping") from error
    unknown = sorted(set(mapping.columns) - set(COLUMNS))
    if unknown:
        raise MappingUnusable(
            f"there is no column {unknown[0]!r} to map to", field="mapping", accepted=list(COLUMNS)
        )
    if PATH not in mapping.columns:
        raise MappingUnusable(f"no column is mapped to {PATH!r}", field="mapping")
    for name, column in mapping.columns.items():
        _check_pattern(name, column)
        if name != PATH and column.completes_path:
            raise MappingUnusable(
                f"columns.{name}: only {PATH} has a folder, a suffix or a search", field="mapping"
            )
    folder = slashed(mapping.path.folder)
    if folder.startswith("/") or ".." in folder.split("/"):
        raise MappingUnusable(
            f"columns.{PATH}.folder: it must stay below the folder of images", field="mapping"
        )
    return mapping


def _check_plain(text: str) -> None:
    """A tag would make something else of a word than what is written, or fail in its own way."""
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None) is not None:
            raise MappingUnusable(
                "the file uses aliases or tags, which no mapping needs", field="mapping"
            )


def _check_pattern(name: str, column: Column) -> None:
    if column.pattern is None:
        return
    try:
        groups = pl.Series([""]).str.extract_groups(column.pattern).struct.fields
    except pl.exceptions.ComputeError as error:
        why = "it is no regular expression, looks around, refers back, or is too large"
        raise MappingUnusable(f"columns.{name}.pattern: {why}", field="mapping") from error
    if len(groups) != 1:
        raise MappingUnusable(f"columns.{name}.pattern: one group, please", field="mapping")


def _text(name: str, roots: Roots) -> str:
    if name in shipped():
        return (SHIPPED / f"{name}.yaml").read_text()
    try:
        path = roots.file(name, field="mapping")
    except FileMissing as error:
        raise FileMissing(str(error), field="mapping", accepted=[*shipped(), "a file"]) from error
    content = read_limited(path, SIZE_LIMIT)
    if content is None:
        raise MappingUnusable(f"the file has more than {SIZE_LIMIT >> 10} KiB", field="mapping")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise MappingUnusable("the file is not UTF-8 text", field="mapping") from error


def _files(folder: Path) -> dict[str, list[str]]:
    """The files below a folder by name."""
    found: dict[str, list[str]] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            found.setdefault(name, []).append(str(Path(parent, name).relative_to(folder)))
    return found


class _Words(yaml.SafeLoader):
    """Every scalar is the word that is written: `no` and `1.0` are words of a hospital."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Raises `MappingUnusable` for a key that stands twice: YAML would take the last."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise MappingUnusable(f"{quoted(twice)} stands twice in one place", field="mapping")
        return super().construct_mapping(node, deep)


_Words.yaml_implicit_resolvers = {}
