"""Any hospital's CSV, by a mapping file that says what its columns and values are.

The mapping translates a row into the words of a CheXpert-style CSV; everything after that, and
every check, is the same. A value that the mapping does not list is kept as it is written.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from api_schemas.findings import FINDINGS
from api_schemas.imports import MappedImport
from services.datasets.importers.fields import PATH, RowUnusable, entry
from services.datasets.importers.files import Roots, read_limited
from services.datasets.importers.source import Entry, FileMissing, MappingUnusable
from services.datasets.importers.tables import Row, Table

SHIPPED = Path(__file__).parent / "mappings"
SIZE_LIMIT = 1 << 15
BRACKETS_LIMIT = 1000
"""Time grows with the square of their depth."""
OURS = (
    *(PATH, "PID", "Sex", "Age", "Race", "Ethnicity", "Frontal/Lateral", "AP/PA", "Split", "Fold"),
    *("Synthetic", "Phantom"),
    *FINDINGS,
)

Words = Annotated[str, StringConstraints(max_length=200)]


class Column(BaseModel):
    """One column of ours: where its words come from, and what they mean."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    source: Words = Field(alias="from")
    values: dict[Words, Words] = {}
    otherwise: Words | None = None
    """What a word that `values` does not list means; without it the word stays."""
    pattern: Annotated[str, StringConstraints(max_length=200)] | None = None
    """A regular expression; its one group is the word. In the language of Rust's `regex`, which
    takes linear time: with Python's, one row of a hostile mapping lasts for ever.
    """

    def read(self, row: Row, name: str) -> str:
        said = row[self.source].strip()
        if self.pattern is not None:
            found = pl.Series([said[:1000]]).str.extract(self.pattern)[0]
            if found is None:
                raise RowUnusable(f"{self.source}, read as {name}, does not fit its pattern")
            said = found
        return self.values.get(said, said if self.otherwise is None else self.otherwise)


class ColumnMapping(BaseModel):
    """A mapping file: our columns by name. `Path` is needed, each other may be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: dict[Words, Column]


class Mapped:
    """The layout of one table under one mapping."""

    def __init__(self, request: MappedImport, roots: Roots) -> None:
        path = roots.file(request.path, field="path")
        self.images = path.parent
        if request.image_root is not None:
            self.images = roots.folder(request.image_root, field="image_root")
        self._laterals = request.laterals
        self._columns = read_mapping(_text(request.mapping, roots)).columns
        needed = dict.fromkeys(column.source for column in self._columns.values())
        self._table = Table(path, list(needed))

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        return self._table.rows()

    def entry(self, line: int, row: Row) -> Entry:
        ours = {name: column.read(row, name) for name, column in self._columns.items()}
        return entry(line, ours, laterals=self._laterals)

    def remarks(self) -> list[str]:
        return self._table.remarks()


def shipped() -> list[str]:
    """The names of the mappings that come with the suite."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def read_mapping(text: str) -> ColumnMapping:
    """Raises `MappingUnusable`, naming the place in the file."""
    if text.count("[") + text.count("{") > BRACKETS_LIMIT:
        raise MappingUnusable("the file has more brackets than any mapping", field="mapping")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise MappingUnusable("the file uses aliases, which no mapping needs", field="mapping")
        mapping = ColumnMapping.model_validate(yaml.load(text, _Words))  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError) as error:
        raise MappingUnusable("the file is not YAML", field="mapping") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise MappingUnusable(f"{where}: {first['msg']}", field="mapping") from error
    unknown = sorted(set(mapping.columns) - set(OURS))
    if unknown:
        raise MappingUnusable(
            f"there is no column {unknown[0]!r} to map to", field="mapping", accepted=list(OURS)
        )
    if PATH not in mapping.columns:
        raise MappingUnusable(f"no column is mapped to {PATH!r}", field="mapping")
    for name, column in mapping.columns.items():
        _check_pattern(name, column)
    return mapping


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


class _Words(yaml.SafeLoader):
    """Every scalar is the word that is written: `no` and `1.0` are words of a hospital."""


_Words.yaml_implicit_resolvers = {}
