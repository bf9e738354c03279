"""The drawing board: a batch of pictures, their coordinates and soft-edged shapes.

Knows shapes and random variation, no anatomy. x runs from -1 (image left, the patient's right)
to 1, y from -1 (top) to 1. Every number that varies by picture has shape (N, 1, 1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
"""Always float32; numpy's types lose that on the way through arithmetic."""
HALF = 0.5


def column(values: Sequence[float] | npt.NDArray[np.float64]) -> Array:
    """One number a picture, ready to broadcast: (N,) -> (N, 1, 1)."""
    return np.asarray(values, np.float32)[:, None, None]


@dataclass(frozen=True)
class Canvas:
    """N pictures in the making; `pen` is the width of an edge, the unsharpness of the scanner."""

    x: Array  # (1, 1, W)
    y: Array  # (1, H, 1)
    pen: Array  # (N, 1, 1)

    def take(self, which: npt.NDArray[np.intp]) -> "Canvas":
        return replace(self, pen=self.pen[which])

    def inside(self, distance: Array, soft: float = 0.0) -> Array:
        """1 where `distance` is well above 0, 0 well below, a ramp of the pen's width between.

        `soft` widens the ramp, in the units of the coordinates.
        """
        return np.clip(distance / (self.pen + soft) + 0.5, 0, 1)

    def line(self, distance: Array, width: Array | float) -> Array:
        """A stroke of `width` where `distance` crosses 0."""
        return self.inside(0.5 * width - np.abs(distance))

    def ellipse(
        self, cx: Array, cy: Array, rx: Array | float, ry: Array | float, soft: float = 0.0
    ) -> Array:
        u, v = (self.x - cx) / rx, (self.y - cy) / ry
        return self.inside((1 - np.sqrt(u * u + v * v)) * np.minimum(rx, ry), soft)


def grid(size_px: int, pen: Array) -> Canvas:
    """A square canvas of pixel centres; no edge is sharper than a pixel."""
    axis = ((np.arange(size_px, dtype=np.float32) + 0.5) * 2 / size_px - 1).astype(np.float32)
    sharpest = np.float32(2 / size_px)
    return Canvas(axis[None, None, :], axis[None, :, None], np.maximum(pen, sharpest))


@dataclass(frozen=True)
class Variation:
    """Named uniform numbers in [0, 1), one a picture: what makes two chests differ."""

    names: Mapping[str, int]
    values: Array  # (N, K)

    def take(self, which: npt.NDArray[np.intp]) -> "Variation":
        return replace(self, values=self.values[which])

    def __getitem__(self, name: str) -> Array:
        return self.values[:, self.names[name], None, None]

    def between(self, name: str, low: float, high: float) -> Array:
        return low + (high - low) * self[name]

    def chance(self, name: str) -> npt.NDArray[np.bool_]:
        """True for half of the pictures."""
        return self[name] < HALF

    def sign(self, name: str) -> Array:
        """-1 or 1 with equal chance: a side."""
        return np.where(self.chance(name), np.float32(-1), np.float32(1))
