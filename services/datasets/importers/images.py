"""Pictures: from a file of unknown honesty to prepared pixels, and from pixels to PNG.

Knows no sample and no patient.
"""

import hashlib
import io
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from services.datasets.importers.source import Pixels, Unreadable

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


def prepare(content: bytes, size_px: int) -> Pixels | Unreadable:
    """The picture in an encoded file as (size_px, size_px) grey levels.

    Grayscale; the longest side resized to `size_px` with Pillow's bilinear filter (antialiased
    when shrinking, interpolating when growing); minimum to 0 and maximum to 255, per image; the
    short side padded with 0 on both sides alike (an odd pixel goes right or below).
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > PIXEL_LIMIT:
                return Unreadable(f"the image has more than {PIXEL_LIMIT // 10**6} megapixels")
            grey = _grey(image)
    except BOMB:
        return Unreadable(f"the image has more than {PIXEL_LIMIT // 10**6} megapixels")
    except DAMAGED:
        return Unreadable("the image does not decode as PNG or JPEG")
    return _fit(grey, size_px)


def _grey(image: Image.Image) -> Image.Image:
    """Mode F, so that 16-bit files keep their depth until after the resize."""
    if not image.mode.startswith(("I", "F")):
        image = image.convert("L")
    return image.convert("F")


def _fit(grey: Image.Image, size_px: int) -> Pixels | Unreadable:
    scale = size_px / max(grey.size)
    width, height = (max(1, round(side * scale)) for side in grey.size)
    resized = np.asarray(grey.resize((width, height), Image.Resampling.BILINEAR), np.float64)
    low, high = resized.min(), resized.max()
    if not high > low:
        return Unreadable("the image is of one grey level")
    left, top = (size_px - width) // 2, (size_px - height) // 2
    fitted = np.zeros((size_px, size_px), np.uint8)
    levels = np.rint((resized - low) * (255 / (high - low)))
    fitted[top : top + height, left : left + width] = levels.astype(np.uint8)
    return fitted


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
