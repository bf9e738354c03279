"""A study in one file: data, generators, cohorts and the experiment on them, by names.

Knows what may stand in the file; runs nothing. A name stands wherever a request has an id.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid5

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from api_schemas.base import Name, Wire
from api_schemas.generation import GenerateRequest
from api_schemas.generators import GeneratorRequest
from api_schemas.imports import DatasetRequest, FilesRequest, PhantomImport, TablesImport
from api_schemas.training import ExperimentRequest

T = TypeVar("T")
Entry = dict[str, Any]
"""A request as the API takes it, with names for ids; or `{id: ...}` of what is there already."""

PLACES = (
    "path",
    "image_root",
    "demographics",
    "train_list",
    "test_list",
    "patients",
    "admissions",
    "mapping",
)
REFERENCES = ("real", "synthetic", "data")
"""Where an experiment names data."""

NOBODY = UUID(int=0)

_dataset: TypeAdapter[FilesRequest | PhantomImport] = TypeAdapter(DatasetRequest)


class NotAStudy(ValueError):
    """The file describes no study; the message says where and why."""


class Existing(Wire):
    """Something that was made before."""

    id: UUID


class Study(Wire):
    """The entries of a study file, each under a name of the file's own."""

    name: Name
    notes: list[str] = Field(default_factory=list[str])
    datasets: dict[str, Entry] = Field(min_length=1)
    generators: dict[str, Entry] = Field(default_factory=dict[str, Entry])
    cohorts: dict[str, Entry] = Field(default_factory=dict[str, Entry])
    experiment: Entry

    def dataset(self, name: str) -> FilesRequest | PhantomImport | Existing:
        """Paths that are there become full ones: the suite looks from elsewhere."""
        entry = {"name": name, **_located(self.datasets[name])}
        return _made(f"datasets.{name}", entry) or _valid(f"datasets.{name}", _dataset, entry)

    def generator(self, name: str, ids: Mapping[str, UUID]) -> GeneratorRequest | Existing:
        where = f"generators.{name}"
        entry = {"name": name, **self.generators[name]}
        if "id" not in entry:
            entry["dataset"] = self._id(f"{where}.dataset", entry.get("dataset"), "datasets", ids)
        return _made(where, entry) or _valid(where, TypeAdapter(GeneratorRequest), entry)

    def cohort(self, name: str, ids: Mapping[str, UUID]) -> GenerateRequest | Existing:
        where = f"cohorts.{name}"
        entry = {"name": name, **self.cohorts[name]}
        if "generator" in entry:
            entry["generator"] = self._id(
                f"{where}.generator", entry["generator"], "generators", ids
            )
        if "mirror" in entry:
            mirrored = self._id(f"{where}.mirror", entry["mirror"], "datasets", ids)
            entry["mirror"] = {"dataset": mirrored}
        return _made(where, entry) or _valid(where, TypeAdapter(GenerateRequest), entry)

    def request(self, ids: Mapping[str, UUID]) -> ExperimentRequest:
        entry = self._resolved("experiment", {"name": self.name, **self.experiment}, ids)
        return _valid("experiment", TypeAdapter(ExperimentRequest), entry)

    def check(self) -> None:
        """Raise `NotAStudy` for whatever could be known to be wrong before anything is made."""
        ids = {key: uuid5(NOBODY, key) for key in self._keys()}
        paths = [
            (f"datasets.{name}.{field}", path)
            for name in self.datasets
            for field, path in tables_of(self.dataset(name))
        ]
        for name in self.generators:
            self.generator(name, ids)
        for name in self.cohorts:
            self.cohort(name, ids)
        self.request(ids)
        for where, path in paths:
            if not Path(path).exists():
                raise NotAStudy(
                    f"{where}: there is no {path} in {Path.cwd()}, nor below a folder "
                    "that may be imported from"
                )

    def folders(self) -> list[Path]:
        """From which the suite must be allowed to import."""
        orders = [self.dataset(name) for name in self.datasets]
        values = [
            *(path for order in orders for _, path in tables_of(order)),
            *(v for order in orders for field, v in order.model_dump().items() if field in PLACES),
        ]
        places = (
            Path(value) for value in values if isinstance(value, str) and Path(value).is_absolute()
        )
        return list(dict.fromkeys(each if each.is_dir() else each.parent for each in places))

    def _keys(self) -> Iterator[str]:
        for group in ("datasets", "generators", "cohorts"):
            yield from (f"{group}.{name}" for name in getattr(self, group))

    def _id(self, where: str, name: Any, group: str, ids: Mapping[str, UUID]) -> UUID:
        known = getattr(self, group)
        if name not in known:
            raise NotAStudy(f"{where}: '{name}' is none of {group}: {', '.join(known) or 'empty'}")
        return ids[f"{group}.{name}"]

    def _resolved(self, where: str, value: Any, ids: Mapping[str, UUID]) -> Any:
        """The same with every name of data replaced by a reference."""
        if isinstance(value, list):
            return [self._resolved(f"{where}.{i}", each, ids) for i, each in enumerate(value)]
        if not isinstance(value, dict):
            return value
        return {
            key: self._reference(f"{where}.{key}", each, ids)
            if key in REFERENCES and isinstance(each, str)
            else self._resolved(f"{where}.{key}", each, ids)
            for key, each in value.items()
        }

    def _reference(self, where: str, name: str, ids: Mapping[str, UUID]) -> dict[str, UUID]:
        if name in self.cohorts:
            return {"generation": ids[f"cohorts.{name}"]}
        if name in self.datasets:
            return {"dataset": ids[f"datasets.{name}"]}
        known = ", ".join([*self.datasets, *self.cohorts])
        raise NotAStudy(f"{where}: '{name}' is no dataset or cohort of this file: {known}")


def read(file: Path, roots: Sequence[str] = ()) -> Study:
    """The study in a YAML file, checked. Paths are those of the current folder or, as in
    `POST /datasets`, below one of the `roots` that may be imported from. Raises `NotAStudy`.
    """
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise NotAStudy(f"{file}: {error}") from error
    study = _valid("", TypeAdapter(Study), content)
    located = {name: _located(entry, roots) for name, entry in study.datasets.items()}
    study = study.model_copy(update={"datasets": located})
    study.check()
    return study


def _located(entry: Entry, roots: Sequence[str] = ()) -> Entry:
    """The same with the full path of whatever is there."""
    found = dict(entry)
    for place in PLACES:
        path = entry.get(place)
        if isinstance(path, str):
            found[place] = _full(path, roots)
    tables = entry.get("paths")
    if isinstance(tables, list):
        found["paths"] = [
            {**table, "path": _full(table["path"], roots)}
            if isinstance(table, dict) and isinstance(table.get("path"), str)
            else table
            for table in tables
        ]
    return found


def _full(path: str, roots: Sequence[str]) -> str:
    there = (Path(root) / path for root in (".", *roots))
    return next((str(p.resolve()) for p in there if p.exists()), path)


def tables_of(order: Wire) -> list[tuple[str, str]]:
    """The tables or the folder of an import, each with the field that names it."""
    if isinstance(order, TablesImport) and order.paths is not None:
        return [(f"paths.{n}.path", table.path) for n, table in enumerate(order.paths)]
    path = getattr(order, "path", None)
    return [] if path is None else [("path", path)]


def _made(where: str, entry: Entry) -> Existing | None:
    """What is there already, if the entry says so; its name in the file is not its own."""
    if "id" not in entry:
        return None
    named = {key: value for key, value in entry.items() if key != "name"}
    return _valid(where, TypeAdapter(Existing), named)


def _valid(where: str, kind: TypeAdapter[T], value: Any) -> T:
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        told = (f"{_place(where, fault['loc'])}: {fault['msg']}" for fault in faults[:10])
        raise NotAStudy("; ".join(dict.fromkeys(told))) from error


def _place(where: str, loc: tuple[int | str, ...]) -> str:
    return ".".join(map(str, ([where] if where else []) + [*loc])) or "the file"
