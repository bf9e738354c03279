"""A film shown pixel by pixel, straight from DICOM PS3.3: what the importer must agree with.

Knows numpy and plain Python, and nothing of the importer or of pydicom. Takes the tags as their
writer meant them: LUTs are lists, windows are tuples.
"""

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Lut:
    """`first` is the stored value that the first entry stands for."""

    first: int
    bits: int
    entries: list[int]

    def look_up(self, value: float) -> int:
        """PS3.3 C.11.1.1: below the table its first entry, above it the last."""
        place = math.floor(value + 0.5) - self.first
        return self.entries[min(max(place, 0), len(self.entries) - 1)]


@dataclass(frozen=True)
class Film:
    """What a header says, and the values that its pixels mean, (H, W)."""

    values: np.ndarray
    allocated: int = 16
    stored: int = 12
    high: int = 11
    signed: bool = False
    monochrome1: bool = False
    padding: tuple[int, int] | None = None
    slope: float | None = None
    intercept: float | None = None
    modality: Lut | None = None
    voi: Lut | None = None
    windows: list[tuple[float, float]] = field(default_factory=list)
    function: str = "LINEAR"

    def cells(self) -> np.ndarray:
        """The words that a scanner would store: the value's bits at their place, the rest 0,
        or the sign repeated above.
        """
        kind = {8: np.uint8, 16: np.uint16}[self.allocated]
        mask = (1 << self.stored) - 1
        shift = self.high + 1 - self.stored
        words = np.zeros(self.values.shape, kind)
        for at, value in np.ndenumerate(self.values):
            word = (int(value) & mask) << shift
            if value < 0:
                word |= ((1 << self.allocated) - 1) & ~((1 << (self.high + 1)) - 1)
            words[at] = word
        return words

    def is_padding(self, value: int) -> bool:
        return self.padding is not None and min(self.padding) <= value <= max(self.padding)

    def level(self, value: int) -> float:
        """From dark to light, of any range."""
        shown: float = value
        if self.modality is not None:
            shown = self.modality.look_up(value)
        elif self.slope is not None and self.intercept is not None:
            shown = value * self.slope + self.intercept
        if self.voi is not None:
            shown = self.voi.look_up(shown)
        elif self.windows:
            shown = windowed(shown, *self.windows[0], self.function)
        return -shown if self.monochrome1 else shown

    def levels(self) -> np.ndarray:
        """0 to 1 over the pixels outside the padding, which is 0."""
        shown = np.full(self.values.shape, np.nan)
        for at, value in np.ndenumerate(self.values):
            if not self.is_padding(int(value)):
                shown[at] = self.level(int(value))
        low, high = np.nanmin(shown), np.nanmax(shown)
        return np.nan_to_num((shown - low) / (high - low), nan=0.0)


def windowed(x: float, c: float, w: float, function: str) -> float:
    """PS3.3 C.11.2.1.2.1, C.11.2.1.3.2 and C.11.2.1.3.1, with ymin 0 and ymax 1."""
    if function == "SIGMOID":
        return 1 / (1 + math.exp(min(700.0, -4 * (x - c) / w)))
    if function == "LINEAR_EXACT":
        if x <= c - w / 2:
            return 0.0
        return 1.0 if x > c + w / 2 else (x - c) / w + 0.5
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    return 1.0 if x > c - 0.5 + (w - 1) / 2 else (x - (c - 0.5)) / (w - 1) + 0.5
