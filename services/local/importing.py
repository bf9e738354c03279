"""The command line's import: a folder of this machine becomes a dataset of the running suite.

Knows the wire and the typed client, no format: what a format may be told is its wire model's.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args
from uuid import uuid4

from pydantic import Field, TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape

from api_schemas.base import JobView, Problem
from api_schemas.client import Client, wait
from api_schemas.datasets import DatasetView
from api_schemas.imports import FilesRequest

BATCH = re.compile(r"CheXpert.*[\W_]batch[\W_]*[0-9]", re.IGNORECASE)
LIMIT_S = 14 * 24 * 3600.0
_request: TypeAdapter[FilesRequest] = TypeAdapter(
    Annotated[FilesRequest, Field(discriminator="format")]
)


class NotUnderstood(ValueError):
    """What was typed is no import; the message says which word."""


FIELDS = frozenset(name for kind in get_args(FilesRequest) for name in kind.model_fields)


@dataclass(frozen=True)
class Order:
    """What to ask for, and the folders that must be allowed for it."""

    request: FilesRequest
    roots: list[Path]


def order(
    format_: str,
    path: Path,
    name: str | None,
    given: Sequence[str],
    site: str | None,
    tables: Sequence[str] = (),
) -> Order:
    """The request for `path`; `given` are further fields as `field=value`, `tables` further tables
    of the source as `file=split`.

    A value that names an existing file or folder becomes its full path. Raises `NotUnderstood`.
    """
    real = path.resolve(strict=True)
    fields: dict[str, Any] = {"format": format_, "name": name or real.name, "path": str(real)}
    roots = [_folder(real)]
    if tables:
        further = [_table(each) for each in tables]
        roots += [Path(table["path"]).parent for table in further]
        fields["paths"] = [{"path": fields.pop("path")}, *further]
    if site is not None:
        fields["site"] = site
    for field, value in read_fields(given).items():
        fields[field] = value
        if "/" in value and Path(value).exists():
            found = Path(value).resolve()
            roots.append(_folder(found))
            fields[field] = str(found)
    try:
        return Order(_request.validate_python(fields), list(dict.fromkeys(roots)))
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        told = (
            f"{fault['loc'][-1] if fault['loc'] else 'format'}: {fault['msg']}" for fault in faults
        )
        raise NotUnderstood("; ".join(dict.fromkeys(told))) from error


def _table(word: str) -> dict[str, str]:
    """A further table and its split. Raises `NotUnderstood`."""
    file, equals, split = word.rpartition("=")
    if not equals:
        raise NotUnderstood(f"{word!r} is not of the form file=split, such as test.csv=test")
    if not Path(file).is_file():
        raise NotUnderstood(f"there is no table {file}")
    return {"path": str(Path(file).resolve()), "split": split}


def read_fields(given: Sequence[str]) -> dict[str, str]:
    """Words of the form `field=value`. Raises `NotUnderstood`."""
    fields: dict[str, str] = {}
    for each in given:
        field, equals, value = each.partition("=")
        if not equals:
            raise NotUnderstood(f"{each!r} is not of the form field=value")
        fields[field] = value
    return fields


def advice(problem: Problem) -> str:
    """How to say on the command line what the import lacks; nothing for other problems."""
    if problem.field is None or problem.field not in FIELDS:
        return ""
    accepted = problem.accepted if isinstance(problem.accepted, list) else []
    return f"Say it as --with {problem.field}={accepted[0]}" if len(accepted) == 1 else ""


def _folder(path: Path) -> Path:
    """The folder that must be allowed: that of a table; of one batch of several, the one above."""
    return path.parent if path.is_file() or BATCH.search(path.name) else path


def run(client: Client, console: Console, request: FilesRequest) -> None:
    """Import, show how it goes, and say what came of it. Raises `JobDidNotSucceed`."""
    made = client.post_dataset(request, idempotency_key=f"import-{uuid4()}")
    console.print(f"dataset {made.id}")
    with console.status("importing") as spinner:

        def show(job: JobView) -> None:
            spinner.update(
                f"{job.message or job.state}: {job.done:.0f} of {job.total:.0f} {job.unit}"
            )

        try:
            wait(lambda: client.get_dataset(made.id).job, limit_s=LIMIT_S, seen=show)
        finally:
            _tell(client, console, client.get_dataset(made.id))


def _tell(client: Client, console: Console, made: DatasetView) -> None:
    if made.warnings:
        console.print("[yellow]succeeded with warnings[/yellow]")
    for warning in made.warnings:
        console.print(f"[yellow]{escape(warning)}[/yellow]")
    if made.manifest is not None:
        console.print(
            f"{made.manifest.images} images of {made.manifest.patients} patients, "
            f"manifest {made.manifest.digest[:16]}"
        )
    codes = Counter(str(each.code) for each in client.dataset_rejections(made.id))
    for code, count in codes.most_common():
        console.print(f"left out ({code}): {count}")
    for note in made.notes:
        console.print(f"[dim]{escape(note)}[/dim]")
