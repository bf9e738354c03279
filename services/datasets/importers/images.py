"""Pictures: from grey levels to prepared pixels, and from pixels to PNG.

Knows no file, no sample and no patient.
"""

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from services.datasets.importers.source import Picture, Pixels, Preparation, Unreadable

HASH_SIDE = 16

Grey = npt.NDArray[Any]
"""Grey levels of any depth, (H, W)."""


@dataclass(frozen=True)
class Decoded:
    """The grey levels of a file, and what a person should know about how they were read."""

    grey: Grey
    notes: tuple[str, ...] = ()


def picture(
    pixels: Pixels, text: dict[str, str] | None = None, notes: tuple[str, ...] = ()
) -> Picture:
    """Prepared pixels as they are stored; `text` is written into the PNG."""
    return Picture(encode_png(pixels, text), pixel_digest(pixels), descriptor(pixels), notes)


def fit(grey: Grey, how: Preparation) -> Pixels | Unreadable:
    """Grey levels as a prepared picture, (size_px, size_px), by the paper's steps.

    The longest side resized to `size_px`, bilinear; minimum to 0 and maximum to 255, per image;
    the short side padded with 0 on both sides alike (an odd pixel goes right or below).
    """
    size_px = how.size_px
    scale = size_px / max(grey.shape)
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    resize = _interpolate if how.resize == "paper" else _average
    resized = resize(grey, height, width)
    low, high = float(resized.min()), float(resized.max())
    if not low < high < np.inf:
        return Unreadable("the image is of one grey level")
    left, top = (size_px - width) // 2, (size_px - height) // 2
    fitted = np.zeros((size_px, size_px), np.uint8)
    levels = np.rint((resized - low) * (255 / (high - low)))
    fitted[top : top + height, left : left + width] = levels.astype(np.uint8)
    return fitted


def _interpolate(grey: Grey, height: int, width: int) -> npt.NDArray[np.float64]:
    """Bilinear between the four pixels around each point (half-pixel centres), nothing else."""
    above, below, down = _neighbours(grey.shape[0], height)
    left, right, across = _neighbours(grey.shape[1], width)

    def rows(which: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        taken = grey[which]
        near, far = taken[:, left].astype(np.float64), taken[:, right].astype(np.float64)
        return near + (far - near) * across

    upper, lower = rows(above), rows(below)
    return upper + (lower - upper) * down[:, None]


def _neighbours(
    size: int, wanted: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """For each of `wanted` points: the pixels before and after it, and the share of the latter."""
    points = (np.arange(wanted) + 0.5) * (size / wanted) - 0.5
    points = np.clip(points, 0, size - 1).astype(np.float64)
    before = points.astype(np.intp)
    return before, np.minimum(before + 1, size - 1), points - before


def _average(grey: Grey, height: int, width: int) -> npt.NDArray[np.float64]:
    """Pillow's bilinear filter, as wide as what a pixel covers. Mode F keeps 16 bits' depth."""
    image = Image.fromarray(grey.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float64)


def encode_png(pixels: Pixels, text: dict[str, str] | None = None) -> bytes:
    """A PNG, with `text` as iTXt chunks. Fast rather than small: level 1, run lengths."""
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_itxt(key, value)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", compress_level=1, compress_type=3, pnginfo=info)
    return sink.getvalue()


def pixel_digest(pixels: Pixels) -> str:
    """SHA-256 of the grey levels row by row; the bytes of a PNG depend on its writer."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def descriptor(pixels: Pixels) -> bytes:
    """256 bits: where the picture, 17 by 16 cells of it, grows lighter from left to right."""
    cells = Image.fromarray(pixels).resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    levels = np.asarray(cells)
    return np.packbits(levels[:, 1:] > levels[:, :-1]).tobytes()
