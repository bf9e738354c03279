"""A source whose rows stand in tables and whose pictures are files.

Knows no format: a layout reads the tables, and says what a row means.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from api_schemas.base import Split
from api_schemas.findings import Sex
from services.datasets.importers.fields import RowUnusable, UnusableValues
from services.datasets.importers.files import Roots
from services.datasets.importers.source import (
    Decoders,
    Entry,
    LabelsUnread,
    Picture,
    Preparation,
    Rejected,
    Unreadable,
)
from services.datasets.importers.tables import Row

NOT_FOUND = Unreadable("the image is missing or lies outside the import folders")


class Layout(Protocol):
    """The tables of one format; raises `SourceUnusable` when made of unusable ones."""

    @property
    def images(self) -> Path:
        """The folder in which places are paths."""
        ...

    @property
    def unusable(self) -> UnusableValues:
        """Where `rows` and `entry` count the values that they leave blank."""
        ...

    def rows(self) -> Iterator[tuple[int, Row | list[str]]]:
        """Every record with its line; a list of fields where it does not fit the header."""
        ...

    def entry(self, line: int, row: Row) -> Entry:
        """What a row means; raises `RowUnusable`."""
        ...

    def remarks(self) -> list[str]:
        """Complete once the rows have been read."""
        ...


@runtime_checkable
class ScatteredLayout(Layout, Protocol):
    """A layout whose pictures may lie elsewhere than their places say."""

    def candidates(self, place: str) -> Sequence[str]:
        """Where below `images` the picture of a place may lie, in the order of looking."""
        ...


@dataclass
class _Seen:
    """What earlier rows said, against which a later one is checked."""

    places: dict[str, int] = field(default_factory=dict[str, int])
    splits: dict[str, Split] = field(default_factory=dict[str, Split])
    sexes: dict[str, Sex] = field(default_factory=dict[str, Sex])
    both: set[str] = field(default_factory=set[str])
    """Patients of whom rows state both sexes."""
    labelled: bool = False
    leaking: int = 0

    def accept(self, sample: Entry) -> None:
        """Raises `RowUnusable` for a repeated picture or a patient of two splits."""
        first = self.places.setdefault(sample.place, sample.line)
        if first != sample.line:
            raise RowUnusable(f"the same picture as line {first}")
        if sample.split is not None:
            stated = self.splits.setdefault(sample.patient, sample.split)
            if stated != sample.split:
                del self.places[sample.place]
                self.leaking += 1
                error = RowUnusable(f"split {sample.split}, but the patient is in {stated} above")
                error.split = sample.split
                raise error
        sex = sample.sex
        if sex is not None and self.sexes.setdefault(sample.patient, sex) != sex:
            self.both.add(sample.patient)
        self.labelled = self.labelled or any(v is not None for v in sample.labels.values())

    def remarks(self) -> list[str]:
        told: list[str] = []
        if self.splits:
            told.append(f"the source states the split of {len(self.splits)} patients")
        if self.leaking:
            told.append(
                "rows that were left out, as they put a patient of an earlier row into another "
                f"split: {self.leaking}"
            )
        if self.both:
            told.append(
                "patients whose images are said to be of a woman and of a man; look whether the "
                f"patients are told apart rightly: {len(self.both)}"
            )
        return told


class TableSource:
    """The rows and pictures of one layout. Raises `LabelsUnread` after the last row."""

    def __init__(self, layout: Layout, roots: Roots, how: Preparation) -> None:
        self._layout = layout
        self._roots = roots
        self._how = how
        self._seen = _Seen()

    def entries(self, decoders: Decoders) -> Iterator[Entry | Rejected]:  # noqa: ARG002 - no picture is read
        seen = self._seen = _Seen()
        self._layout.unusable.clear()
        for line, row in self._layout.rows():
            try:
                if isinstance(row, list):
                    raise RowUnusable(f"{len(row)} fields, which is not what the header has")  # noqa: TRY301 - one exit for all reasons
                sample = self._layout.entry(line, row)
                seen.accept(sample)
            except RowUnusable as error:
                yield Rejected(line, str(error), error.code, error.split)
                continue
            yield sample
        if self._layout.unusable.labels and not seen.labelled:
            raise LabelsUnread(
                f"Not one of {self._layout.unusable.labels} labels is 1, 0, -1 or blank: say by a "
                "mapping (mapped_csv) what they mean",
                accepted=["1", "0", "-1", ""],
            )

    def pictures(self, places: Sequence[str], decoders: Decoders) -> Iterator[Picture | Unreadable]:
        return decoders.pictures([self._path(place) or NOT_FOUND for place in places], self._how)

    def _path(self, place: str) -> Path | None:
        layout = self._layout
        names = layout.candidates(place) if isinstance(layout, ScatteredLayout) else [place]
        found = (self._roots.below(layout.images, name) for name in names)
        return next((path for path in found if path is not None), None)

    def remarks(self) -> list[str]:
        return [
            *self._layout.remarks(),
            *self._layout.unusable.remarks(),
            *self._seen.remarks(),
        ]
