"""Pictures: from a file of unknown honesty to prepared pixels, and from pixels to PNG.

Knows no sample and no patient. Runs in a process with limits (`decoder`): what follows guards
against files that are wrong, the limits against files that are hostile.
"""

import hashlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from api_schemas.datasets import RejectionCode
from services.datasets.importers import dicom
from services.datasets.importers.source import Picture, Pixels, Preparation, Unreadable

FILE_LIMIT_BYTES = 100 * 2**20
PIXEL_LIMIT = 50_000_000
FORMATS = ("PNG", "JPEG")
# What Pillow's decoders raise on damaged input; its bomb errors are raised while opening.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    struct.error,
    zlib.error,
    MemoryError,
)
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
TOO_LARGE = Unreadable(f"the image has more than {PIXEL_LIMIT // 10**6} megapixels")
COLOUR_LEVELS = 24
COLOUR_SHARE = 0.02
"""A picture is coloured where this share of it differs by so many levels between channels;
a radiograph that was saved in colour, with a coloured mark on it, is not."""
HASH_SIDE = 16

Grey = npt.NDArray[Any]
"""Grey levels of any depth, (H, W)."""


def prepare(content: bytes, how: Preparation) -> Pixels | Unreadable:
    """The picture in an encoded file (PNG, JPEG, DICOM) as (size_px, size_px) grey levels.

    The paper's steps: grayscale; the longest side resized to `size_px`, bilinear; minimum to 0
    and maximum to 255, per image; the short side padded with 0 on both sides alike (an odd pixel
    goes right or below).
    """
    grey = _decode(content)
    return grey if isinstance(grey, Unreadable) else _fit(grey, how)


def picture(pixels: Pixels, text: dict[str, str] | None = None) -> Picture:
    """Prepared pixels as they are stored; `text` is written into the PNG."""
    return Picture(encode_png(pixels, text), pixel_digest(pixels), descriptor(pixels))


def _decode(content: bytes) -> Grey | Unreadable:
    try:
        if dicom.is_dicom(content):
            return dicom.decode(content, PIXEL_LIMIT)
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > PIXEL_LIMIT:
                return TOO_LARGE
            if image.mode.startswith(("I", "F")):
                return np.asarray(image)
            if image.mode not in {"L", "1", "LA"} and _coloured(image):
                return Unreadable("the image is in colour, as a photograph", RejectionCode.COLOUR)
            return np.asarray(image.convert("L"))
    except BOMB:
        return TOO_LARGE
    except DAMAGED:
        return Unreadable("the image does not decode as PNG or JPEG")


def _coloured(image: Image.Image) -> bool:
    step = max(1, max(image.size) // 512)
    sampled = np.asarray(image.convert("RGB"))[::step, ::step].astype(np.int16)
    spread = sampled.max(axis=2) - sampled.min(axis=2)
    return float((spread > COLOUR_LEVELS).mean()) > COLOUR_SHARE


def _fit(grey: Grey, how: Preparation) -> Pixels | Unreadable:
    size_px = how.size_px
    scale = size_px / max(grey.shape)
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    resize = _interpolate if how.resize == "paper" else _average
    resized = resize(grey, height, width)
    low, high = float(resized.min()), float(resized.max())
    if not high > low:
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
