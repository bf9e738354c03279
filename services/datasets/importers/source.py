"""What every source of samples offers, and how it says that it cannot."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from api_schemas.base import Split
from api_schemas.findings import Finding, Race, Sex, View

Pixels = npt.NDArray[np.uint8]
"""A prepared picture, (size_px, size_px)."""


@dataclass(frozen=True)
class Entry:
    """One usable row of a source, before its picture is read.

    `place` finds the picture in the source; `patient` is the source's own name of the patient.
    Both say more than a dataset may remember: they are pseudonymised or dropped during ingest.
    """

    line: int
    place: str
    patient: str
    fold: int | None = None
    split: Split | None = None
    age: int | None = None
    sex: Sex | None = None
    race: Race | None = None
    view: View | None = None
    labels: Mapping[Finding, int | None] = field(default_factory=dict[Finding, int | None])


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used, and why; `line` counts from 1."""

    line: int
    reason: str


@dataclass(frozen=True)
class Unreadable:
    """A picture that cannot be used, and why."""

    reason: str


class Source(Protocol):
    """Rows first, without opening a picture; then pictures by their places, in any order."""

    def entries(self) -> Iterator[Entry | Rejected]:
        """Every row once, in the order of the source. Raises `SourceUnusable`."""
        ...

    def pictures(self, places: Sequence[str]) -> Iterator[Pixels | Unreadable]:
        """One picture, or the reason why there is none, for each place."""
        ...

    def remarks(self) -> list[str]:
        """What a person should know about how the rows were read; complete after `entries`."""
        ...

    def inscription(self) -> dict[str, str]:
        """The text that every PNG made of this source carries."""
        ...


class SourceUnusable(Exception):
    """The source as a whole cannot be imported; `field` is the input to blame."""

    def __init__(self, detail: str, *, field: str = "path") -> None:
        super().__init__(detail)
        self.field = field


class PathOutsideRoots(SourceUnusable):
    """A path that leads out of the folders that may be imported from."""


class FileMissing(SourceUnusable):
    """No such file or folder, or not one that can be read."""


class NotCsv(SourceUnusable):
    """The file is no well-formed CSV."""


class NoPathColumn(SourceUnusable):
    """The CSV does not say where its images are."""
