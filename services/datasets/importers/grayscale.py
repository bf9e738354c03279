"""DICOM's way from stored bits to grey levels (PS3.3 C.7.6.3, C.11.1 and C.11.2).

Computes the level of every value that occurs in a film, then looks the pixels up. An optional
element that cannot be used is left out and named in the notes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from services.datasets.importers.dicom_tags import (
    NotShowable,
    little_endian,
    number,
    numbers,
    present,
    raw_bytes,
    texts,
    value_representation,
)

Values = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

ELEMENTS = (
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
)
DESCRIPTOR = 3
SIXTEEN = 1 << 16
HALF = SIXTEEN // 2
TINY, HUGE = 1e-30, 1e30
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


class Notes(dict[str, None]):
    """What a person should know about how one picture was shown, each once."""

    def add(self, text: str) -> None:
        self[text] = None

    def ignored(self, *keywords: str) -> None:
        for keyword in keywords:
            self.add(f"{keyword} could not be used and was ignored")


@dataclass(frozen=True)
class PixelCells:
    """Where in its cell of `allocated` bits a pixel's value stands, and whether it is signed.

    `overlays` are the bits of the cell that older files use for overlays (PS3.5 8.1.1).
    """

    allocated: int
    stored: int
    high: int
    signed: bool
    overlays: int = 0
    compressed: bool = False

    @property
    def lowest(self) -> int:
        """The lowest value that a pixel can have."""
        return -(1 << self.stored - 1) if self.signed else 0

    @property
    def highest(self) -> int:
        return self.lowest + (1 << self.stored) - 1

    def values(self, cells: Whole) -> Whole:
        """The pixel values that cells of this content mean."""
        bits = self._bits(cells)
        return bits - (self._sign(bits) << self.stored)

    def contradicting(self, cells: Whole) -> Mask:
        """Which cells have bits set outside the value, other than the repeated sign of a negative.

        A negative without its sign repeated may be a large positive that is called signed. Not
        where a decoder has made the cells: some know of no sign.
        """
        outside = cells & ~(((1 << self.stored) - 1) << self._low) & ~self.overlays
        above = (1 << self.allocated) - (1 << self.high + 1) & ~self.overlays
        negative = self._sign(self._bits(cells)) != 0
        unset = outside == 0
        return ~np.where(negative, (outside == above) | (unset & self.compressed), unset)

    def whole(self, cells: Whole) -> Whole:
        """The numbers that the cells hold when all their bits are taken."""
        return cells - (cells >> self.allocated - 1 << self.allocated) if self.signed else cells

    def value_of(self, written: int) -> int:
        """A number written as an element of the header, as a pixel would hold its bits."""
        for bits in (self.stored, self.allocated, 16):
            half = 1 << bits - 1
            if self.signed and half <= written < 2 * half:
                return written - 2 * half
            if not self.signed and -half <= written < 0:
                return written + 2 * half
        return written

    @property
    def _low(self) -> int:
        return self.high + 1 - self.stored

    def _bits(self, cells: Whole) -> Whole:
        return cells >> self._low & (1 << self.stored) - 1

    def _sign(self, bits: Whole) -> Whole:
        return bits >> self.stored - 1 if self.signed else np.zeros_like(bits)


@dataclass(frozen=True)
class LookupTable:
    """A Modality or VOI LUT: `entries`, the first of them for the value `first` and below it."""

    first: int
    entries: Whole

    def apply(self, values: Values) -> Values:
        places = np.clip(np.floor(values + 0.5) - self.first, 0, len(self.entries) - 1)
        return self.entries[places.astype(np.int64)].astype(np.float64)


@dataclass
class Display:
    """How the header of one film says that it is to be shown."""

    dataset: Dataset
    cells: PixelCells
    inverted: bool
    notes: Notes = field(default_factory=Notes)

    def show(self, pixels: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.float32]:
        """Grey levels from 0 (black) of `pixels`, whole cells, (H, W). Raises `NotShowable`."""
        occurs = np.zeros(1 << self.cells.allocated, np.bool_)
        for row in pixels:
            occurs[row] = True
        cells = np.flatnonzero(occurs)
        film = cells[~self._padding(cells)]
        if not len(film):
            self.notes.ignored("PixelPaddingValue")
            film = cells
        if self.cells.contradicting(film).any():
            raise NotShowable(
                f"pixels contradict BitsStored {self.cells.stored}, HighBit {self.cells.high} and "
                f"PixelRepresentation {int(self.cells.signed)} by their other bits"
            )
        shown = _of_usual_size(self._value_of_interest(self._modality(self.cells.values(film))))
        levels = np.zeros(occurs.shape, np.float32)
        levels[film] = shown.max() - shown if self.inverted else shown - shown.min()
        return levels[pixels]

    # ------------------------------------------------------------ padding (PS3.3 C.7.5.1.1.2)

    def _padding(self, cells: Whole) -> Mask:
        """Which of the cells the header calls padding."""
        value = self._optional_whole("PixelPaddingValue")
        limit = self._optional_whole("PixelPaddingRangeLimit")
        if value is None:
            if limit is not None:
                self.notes.ignored("PixelPaddingRangeLimit")
            return np.zeros(cells.shape, np.bool_)
        low, high = map(self.cells.value_of, sorted((value, value if limit is None else limit)))
        outside = self.cells.contradicting(cells)
        values = np.where(outside, self.cells.whole(cells), self.cells.values(cells))
        padding = (values >= low) & (values <= high)
        if low > high:
            self.notes.add("the range of padding changes its sign, and was taken as bits")
            padding = (values >= low) | (values <= high)
        if not self.cells.lowest <= low <= self.cells.highest and not padding.any():
            self.notes.ignored("PixelPaddingValue")
        return padding

    def _optional_whole(self, keyword: str) -> int | None:
        value = self._optional(keyword)
        if value is None:
            return None
        if value != int(value):
            self.notes.ignored(keyword)
            return None
        untyped = value_representation(self.dataset, keyword) == "US or SS"
        return int(value) - (SIXTEEN if untyped and self.cells.signed and value >= HALF else 0)

    def _optional(self, keyword: str) -> float | None:
        if not present(self.dataset, keyword):
            return None
        value = number(self.dataset, keyword)
        if value is None:
            self.notes.ignored(keyword)
        return value

    # ------------------------------------------------------------ modality (PS3.3 C.11.1)

    def _modality(self, stored: Whole) -> Values:
        values = stored.astype(np.float64)
        looked_up = self._looked_up("ModalityLUTSequence", values)
        if looked_up is not None:
            return looked_up
        slope, intercept = self._optional("RescaleSlope"), self._optional("RescaleIntercept")
        if present(self.dataset, "RescaleSlope") != present(self.dataset, "RescaleIntercept"):
            self.notes.add("RescaleSlope or RescaleIntercept stood alone; the other became 1 or 0")
        rescaled = values * (1 if slope is None else slope) + (intercept or 0)
        if np.isfinite(rescaled).all() and len(np.unique(rescaled)) == len(np.unique(values)):
            return rescaled
        self.notes.ignored("RescaleSlope", "RescaleIntercept")
        return values

    # ------------------------------------------------------------ value of interest (C.11.2)

    def _value_of_interest(self, values: Values) -> Values:
        """By the first usable table, else the first usable window, else the full range."""
        shown = self._looked_up("VOILUTSequence", values)
        if shown is not None:
            return shown
        centers, widths = (self._window(each) for each in ("WindowCenter", "WindowWidth"))
        if len(centers) != len(widths):
            self.notes.ignored("WindowCenter" if len(centers) > len(widths) else "WindowWidth")
        function = self._function() if centers and widths else ""
        for center, width in zip(centers, widths, strict=False):
            if center is None:
                self.notes.ignored("WindowCenter")
            if width is None or width <= 0 or (width < 1 and function == "LINEAR"):
                self.notes.ignored("WindowWidth")
            elif center is not None:
                windowed = _windowed(values, center, width, function)
                if _has_levels(windowed, values):
                    return windowed
                self.notes.add("a window that shows no difference between pixels was ignored")
        return values

    def _window(self, keyword: str) -> list[float | None]:
        values = numbers(self.dataset, keyword)
        if not values and present(self.dataset, keyword):
            self.notes.ignored(keyword)
        return values

    def _function(self) -> str:
        if not present(self.dataset, "VOILUTFunction"):
            return "LINEAR"
        said = [word.upper() for word in texts(self.dataset, "VOILUTFunction")]
        if len(said) == 1 and said[0] in FUNCTIONS:
            return said[0]
        self.notes.ignored("VOILUTFunction")
        return "LINEAR"

    # ------------------------------------------------------------ tables

    def _looked_up(self, keyword: str, values: Values) -> Values | None:
        """`values` through the first usable item of a sequence of tables."""
        if not present(self.dataset, keyword):
            return None
        for item in _items(self.dataset, keyword):
            for table in self._tables(item, signed=self.cells.signed or values.min() < 0):
                found = table.apply(values)
                if _has_levels(found, values):
                    return found
        self.notes.ignored(keyword)
        return None

    def _tables(self, item: Dataset, *, signed: bool) -> Iterator[LookupTable]:
        """The table of an item, read as its writer probably meant it, then as the other way."""
        described = numbers(item, "LUTDescriptor")
        if len(described) != DESCRIPTOR or None in described:
            return
        count, first, bits = (int(value or 0) for value in described)
        entries = _entries(item, count % SIXTEEN or SIXTEEN, bits)
        if entries is None:
            return
        if int(entries.max()) >> bits:
            self.notes.add("a LUT holds larger entries than it states; they were used as they are")
        representation = value_representation(item, "LUTDescriptor")
        if representation not in {"US", "SS"}:
            representation = "SS" if signed else "US"
        unsigned = first % SIXTEEN
        other = unsigned - SIXTEEN if unsigned >= HALF else unsigned
        for start in (other, unsigned) if representation == "SS" else (unsigned, other):
            yield LookupTable(start, entries)


def _of_usual_size(shown: Values) -> Values:
    """`shown`, from 0 to 1 where its range is none of a 32-bit number."""
    low, span = shown.min(), shown.max() / 2 - shown.min() / 2
    return shown if not span or TINY < span < HUGE else (shown / 2 - low / 2) / span


def _windowed(values: Values, center: float, width: float, function: str) -> Values:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3, from 0 to 1."""
    if function == "SIGMOID":
        return (1 + np.tanh(2 * (values - center) / width)) / 2
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _has_levels(shown: Values, values: Values) -> bool:
    """Whether different pixels look different; where all are the same, nothing is lost."""
    if not np.isfinite(shown).all():
        return False
    return shown.min() < shown.max() or values.min() == values.max()


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    try:
        found = dataset[keyword].value
    except Exception:  # noqa: BLE001 - whatever a parser raises on whatever it is given
        return []
    return [item for item in found or [] if isinstance(item, Dataset)]


def _entries(item: Dataset, count: int, bits: int) -> Whole | None:
    """LUTData: words, or bytes where 8-bit entries are packed (PS3.3 C.11.1.1.1)."""
    stored = raw_bytes(item, "LUTData")
    if not 1 <= bits <= 16:  # noqa: PLR2004 - bits of an entry
        return None
    words = np.frombuffer(
        stored[: len(stored) // 2 * 2], "<u2" if little_endian(item, "LUTData") else ">u2"
    )
    if len(stored) == 2 * count:
        return words.astype(np.int64)
    if bits <= 8 and len(stored) == count + count % 2:  # noqa: PLR2004 - bits of a byte
        packed = stored
        if value_representation(item, "LUTData") != "OB":
            packed = words.astype("<u2").tobytes()
        return np.frombuffer(packed, np.uint8)[:count].astype(np.int64)
    return None
