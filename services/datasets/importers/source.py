"""What every source of samples offers, and how it says that it cannot."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from api_schemas.base import Split
from api_schemas.datasets import RejectionCode
from api_schemas.findings import Ethnicity, Finding, Race, Sex, View
from api_schemas.provenance import ImageOrigin

Pixels = npt.NDArray[np.uint8]
"""A prepared picture, (size_px, size_px)."""


@dataclass(frozen=True)
class Entry:
    """One usable row of a source, before its picture is read.

    `place` finds the picture in the source; `patient` is the source's own name of the patient;
    `parent` is the place of the real picture that a synthetic one copies. All three say more
    than a dataset may remember: they are pseudonymised or dropped during ingest.
    """

    line: int
    place: str
    patient: str
    fold: int | None = None
    split: Split | None = None
    age: int | None = None
    sex: Sex | None = None
    race: Race | None = None
    ethnicity: Ethnicity | None = None
    view: View | None = None
    labels: Mapping[Finding, int | None] = field(default_factory=dict[Finding, int | None])
    seed: int | None = None
    replica: int | None = None
    parent: str | None = None
    origin: ImageOrigin | None = None
    """What the row says of the image's making; what the image itself says counts before it."""


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be used, and why; `line` counts from 1, `split` is what the row states."""

    line: int
    reason: str
    code: RejectionCode = RejectionCode.ROW
    split: Split | None = None


@dataclass(frozen=True)
class Unreadable:
    """A picture that cannot be used, and why."""

    reason: str
    code: RejectionCode = RejectionCode.IMAGE


@dataclass(frozen=True)
class Picture:
    """A prepared picture, ready to be stored."""

    png: bytes
    pixel_sha256: str
    descriptor: bytes
    """For the search for near duplicates (`duplicates`)."""
    notes: tuple[str, ...] = ()
    """What was odd about the file, in a few fixed phrases: the dataset counts them."""
    origin: ImageOrigin | None = None
    """What the file says of its own making."""


@dataclass(frozen=True)
class Preparation:
    """How a picture file becomes pixels."""

    size_px: int
    resize: Literal["paper", "antialiased"]


Header = Mapping[str, str]
"""The allow-listed words of a DICOM header, by keyword."""


class Decoders(Protocol):
    """Reads files of unknown honesty where they can do no harm; answers in the order asked."""

    def pictures(
        self, paths: Sequence[Path | Unreadable], how: Preparation
    ) -> Iterator[Picture | Unreadable]:
        """The prepared pictures; what is unreadable already stays so."""
        ...

    def headers(self, paths: Sequence[Path]) -> Iterator[Header | Unreadable]:
        """The headers of DICOM files."""
        ...


class Source(Protocol):
    """Rows first, without preparing a picture; then pictures by their places, in any order."""

    def entries(self, decoders: Decoders) -> Iterator[Entry | Rejected]:
        """Every row once, in the order of the source. Raises `SourceUnusable`."""
        ...

    def pictures(self, places: Sequence[str], decoders: Decoders) -> Iterator[Picture | Unreadable]:
        """One picture, or the reason why there is none, for each place."""
        ...

    def remarks(self) -> list[str]:
        """What a person should know about how the rows were read; complete after `entries`."""
        ...


class SourceUnusable(Exception):
    """The source as a whole cannot be imported; `field` is the input to blame."""

    def __init__(self, detail: str, *, field: str = "path", accepted: object = None) -> None:
        super().__init__(detail)
        self.field = field
        self.accepted = accepted


class PathOutsideRoots(SourceUnusable):
    """A path that leads out of the folders that may be imported from."""


class FileMissing(SourceUnusable):
    """No such file or folder, or not one that can be read."""


class NotCsv(SourceUnusable):
    """The file is no well-formed CSV, and no workbook with such a sheet."""


class TableTooLarge(SourceUnusable):
    """A line, or the whole table, is larger than any table of images has reason to be."""


class ColumnsMissing(SourceUnusable):
    """The table does not have the columns of its format."""


class PatientsUnknown(SourceUnusable):
    """Nothing says which images are of one patient, and the request does not say that each is of
    another.
    """


class LabelsUnread(SourceUnusable):
    """The source has labels, and not one of them can be read."""


class MappingUnusable(SourceUnusable):
    """The mapping file does not say how the columns are to be read."""


class ArchiveUnusable(SourceUnusable):
    """The archive is damaged, or holds what no archive of images has reason to hold."""
