"""Opening picture files of unknown honesty.

Runs in a process with limits (`decoder`), and nowhere else: what follows guards against files
that are wrong, the limits against files that are hostile.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from api_schemas.datasets import RejectionCode
from services.datasets.importers import dicom
from services.datasets.importers.images import Grey, fit
from services.datasets.importers.source import Pixels, Preparation, Unreadable

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


def prepare(content: bytes, how: Preparation) -> Pixels | Unreadable:
    """The picture in an encoded file (PNG, JPEG, DICOM): grayscale, then `images.fit`."""
    grey = _decode(content)
    return grey if isinstance(grey, Unreadable) else fit(grey, how)


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
