"""What can be wrong with a file."""

from collections.abc import Generator
from contextlib import contextmanager


class Faulty(ValueError):
    """A fact about a file, without any of its values: they may be a patient's.

    `others` are further faults of the same file.
    """

    def __init__(
        self,
        detail: str,
        *,
        column: str | None = None,
        line: int | None = None,
        accepted: list[str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.column = column
        self.line = line
        self.accepted = accepted
        self.others: list[Faulty] = []


class Faults:
    """The faults of one file, found by checks that do not need each other."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str | None, int | None], Faulty] = {}

    def add(self, *faults: Faulty) -> None:
        for fault in faults:
            self._found.setdefault((fault.detail, fault.column, fault.line), fault)

    @property
    def found(self) -> bool:
        return bool(self._found)

    @contextmanager
    def collecting(self) -> Generator[None]:
        """Keep what a check raises, and go on behind it."""
        try:
            yield
        except Faulty as fault:
            self.add(fault, *fault.others)

    def check(self) -> None:
        """Raise the first fault, with the others, if there is any."""
        if self._found:
            first, *others = self._found.values()
            first.others = others
            raise first
