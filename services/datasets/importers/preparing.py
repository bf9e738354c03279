"""Opening picture files of unknown honesty.

Runs in a process with limits (`decoder`), and nowhere else: what follows guards against files
that are wrong, the limits against files that are hostile.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ExifTags import Base as ExifTag
from PIL.PngImagePlugin import PngImageFile

from api_schemas.datasets import RejectionCode
from services.datasets.importers import dicom
from services.datasets.importers.images import Decoded, Grey, fit
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


DEEP_COLOUR = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
DEEP_GREY_WITH_ALPHA = "LA;16B"
"""Pillow's names of a PNG with 16 bits a channel, of which it reads the upper bytes alone; beside
them, the names under which it reads the lower ones."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Shares of red, green and blue (ITU-R 601-2, as Pillow's)."""
UPRIGHT: Mapping[int, Callable[[Grey], Grey]] = {
    1: lambda grey: grey,
    2: np.fliplr,
    3: lambda grey: np.rot90(grey, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda grey: np.rot90(grey, -1),
    7: lambda grey: np.rot90(grey, 2).T,
    8: np.rot90,
}
"""By the values of EXIF's Orientation."""
TURNED = "EXIF Orientation was applied"
ORIENTATION_IGNORED = "EXIF Orientation could not be used and was ignored"
TRANSPARENT = "the transparency of some pixels was ignored"


@dataclass(frozen=True)
class Prepared:
    """A prepared picture, and what a person should know about how its file was read."""

    pixels: Pixels
    notes: tuple[str, ...] = ()


def prepare(content: bytes, how: Preparation) -> Prepared | Unreadable:
    """The picture in an encoded file (PNG, JPEG, DICOM): grayscale, then `images.fit`."""
    decoded = _decode(content)
    if isinstance(decoded, Unreadable):
        return decoded
    pixels = fit(decoded.grey, how)
    return pixels if isinstance(pixels, Unreadable) else Prepared(pixels, decoded.notes)


def _decode(content: bytes) -> Decoded | Unreadable:
    try:
        if dicom.is_dicom(content):
            return dicom.decode(content, PIXEL_LIMIT)
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > PIXEL_LIMIT:
                return TOO_LARGE
            grey = _grey(image, content)
            if grey is None:
                return Unreadable("the image is in colour, as a photograph", RejectionCode.COLOUR)
            return _upright(grey, image)
    except BOMB:
        return TOO_LARGE
    except DAMAGED:
        return Unreadable("the image does not decode as PNG or JPEG")


def _grey(image: Image.Image, content: bytes) -> Grey | None:
    """The grey levels of an image in its full depth, None of a coloured one."""
    layout = image.tile[0].args if isinstance(image, PngImageFile) and image.tile else None
    if layout == DEEP_GREY_WITH_ALPHA:
        upper, lower = np.moveaxis(_channels(content, "RGBA")[..., :2], 2, 0)
        return _joined(upper, lower)
    if layout in DEEP_COLOUR:
        return None if _coloured(image) else _deep_grey(content, str(layout))
    if image.mode.startswith(("I", "F")):
        return np.asarray(image)
    if image.mode not in {"L", "1", "LA"} and _coloured(image):
        return None
    return np.asarray(image.convert("L"))


def _deep_grey(content: bytes, layout: str) -> Grey:
    upper = _channels(content, layout)
    lower = _channels(content, DEEP_COLOUR[layout])
    red, green, blue = (_joined(upper[..., n], lower[..., n]) for n in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red
    weighted = np.zeros(red.shape, np.float32)
    for share, channel in zip(LUMINANCE, (red, green, blue), strict=True):
        weighted += np.float32(share) * channel
    return weighted


def _channels(content: bytes, layout: str) -> npt.NDArray[np.uint8]:
    """The bytes of a PNG's pixels that Pillow reads by the layout of this name."""
    with PngImageFile(io.BytesIO(content)) as image:
        image.tile = [tile._replace(args=layout) for tile in image.tile]
        return np.asarray(image)


def _joined(upper: npt.NDArray[np.uint8], lower: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    return upper * np.uint16(256) + lower


def _coloured(image: Image.Image) -> bool:
    step = max(1, max(image.size) // 512)
    sampled = np.asarray(image.convert("RGB"))[::step, ::step].astype(np.int16)
    spread = sampled.max(axis=2) - sampled.min(axis=2)
    return float((spread > COLOUR_LEVELS).mean()) > COLOUR_SHARE


def _upright(grey: Grey, image: Image.Image) -> Decoded:
    notes = [TRANSPARENT] if _transparent(image) else []
    orientation = _orientation(image)
    turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    if turn is None:
        notes.append(ORIENTATION_IGNORED)
    elif orientation != 1:
        notes.append(TURNED)
    return Decoded(turn(grey) if turn else grey, tuple(notes))


def _orientation(image: Image.Image) -> object:
    """EXIF's, 1 where it says none; None where it cannot be read."""
    with warnings.catch_warnings(record=True, action="always") as faults:
        try:
            stated = image.getexif().get(ExifTag.Orientation)
        except DAMAGED:
            return None
    return stated or (None if stated == 0 or faults else 1)


def _transparent(image: Image.Image) -> bool:
    if image.mode in {"LA", "RGBA", "PA"}:
        return int(np.asarray(image.getchannel("A")).min()) < 255  # noqa: PLR2004 - opaque
    return "transparency" in image.info
