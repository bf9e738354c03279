"""What is wrong with files, as a problem that names each file, column and line."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from pydantic import JsonValue

from services.evaluation.importers.faults import Faulty
from services.kit.errors import Unprocessable

FAULTS_LISTED = 50
"""Faults of a request that its answer lists at most."""


@contextmanager
def blaming(field: str, problem: type[Unprocessable]) -> Generator[None]:
    """Raise a `Faulty` of the file under `field` as `problem`."""
    try:
        yield
    except Faulty as fault:
        raise problem_of([(field, fault)], problem) from fault


def problem_of(faults: Sequence[tuple[str, Faulty]], problem: type[Unprocessable]) -> Unprocessable:
    """The faults of several files, each under its field: the first one leads, `faults` lists all
    of them, up to `FAULTS_LISTED`.
    """
    found = [(field, each) for field, first in faults for each in (first, *first.others)]
    field, leading = found[0]
    place = _place(leading)
    told = ", ".join(f"{name} {value}" for name, value in place.items())
    detail = f"{told}: {leading.detail}" if told else leading.detail
    if len(found) > 1:
        detail = f"{detail} ({len(found)} faults in all)"
    listed: list[JsonValue] = [
        {"field": name, **_place(each), "detail": each.detail, "accepted": [*(each.accepted or [])]}
        for name, each in found[:FAULTS_LISTED]
    ]
    return problem(detail, field=field, accepted=leading.accepted, faults=listed, **place)


def _place(fault: Faulty) -> dict[str, str | int]:
    where = {"column": fault.column, "line": fault.line}
    return {name: value for name, value in where.items() if value is not None}
