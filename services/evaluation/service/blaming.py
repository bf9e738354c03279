"""What is wrong with a file, as a problem that names the file, the column and the line."""

from collections.abc import Generator
from contextlib import contextmanager

from services.evaluation.importers.faults import Faulty
from services.kit.errors import Unprocessable


@contextmanager
def blaming(field: str, problem: type[Unprocessable]) -> Generator[None]:
    """Raise a `Faulty` of the file under `field` as `problem`."""
    try:
        yield
    except Faulty as fault:
        where = {"column": fault.column, "line": fault.line}
        told = ", ".join(f"{name} {value}" for name, value in where.items() if value is not None)
        raise problem(
            f"{told}: {fault.detail}" if told else fault.detail,
            field=field,
            accepted=fault.accepted,
            **{name: value for name, value in where.items() if value is not None},
        ) from fault
