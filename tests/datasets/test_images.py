"""Preparing pictures: the paper's steps, and every file that is no picture."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from api_schemas.datasets import RejectionCode
from services.datasets.importers.images import encode_png, pixel_digest
from services.datasets.importers.preparing import PIXEL_LIMIT
from services.datasets.importers.source import Preparation, Unreadable
from tests.datasets.reading import prepared


def paper(size_px: int) -> Preparation:
    return Preparation(size_px, "paper")


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind)
    return sink.getvalue()


def ramp(width: int, height: int, low: int = 40, high: int = 90) -> Image.Image:
    levels = np.linspace(low, high, width * height).reshape(height, width)
    return Image.fromarray(levels.astype(np.uint8))


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30), np.uint8))


@given(width=st.integers(1, 90), height=st.integers(1, 90), size=st.sampled_from([16, 32, 64]))
@settings(max_examples=40, deadline=None)
def test_any_shape_fills_the_longest_side_and_is_padded_with_black(
    width: int, height: int, size: int
) -> None:
    if width * height == 1:
        return
    fitted = prepared(encoded(ramp(width, height)), paper(size))
    assert isinstance(fitted, np.ndarray)
    assert fitted.shape == (size, size)
    assert (fitted.min(), fitted.max()) == (0, 255)
    scale = size / max(width, height)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size - rows) // 2, (size - columns) // 2
    outside = np.ones_like(fitted, bool)
    outside[top : top + rows, left : left + columns] = False
    assert not fitted[outside].any()


def test_minimum_and_maximum_are_taken_over_the_image_not_the_padding() -> None:
    fitted = prepared(encoded(ramp(32, 16, low=100, high=200)), paper(32))
    assert isinstance(fitted, np.ndarray)
    inside = fitted[8:24].astype(float)
    original = np.asarray(ramp(32, 16, low=100, high=200)).astype(float)
    assert np.abs(inside - (original - 100) * 2.55).max() <= 0.51


@pytest.mark.parametrize("shape", [(64, 48), (50, 131), (20, 16), (33, 7)])
def test_the_papers_resize_is_interpolation_between_neighbours(shape: tuple[int, int]) -> None:
    grey = np.random.default_rng(3).integers(0, 4096, shape).astype(np.uint16)
    ours = prepared(encoded(Image.fromarray(grey)), paper(32))
    assert isinstance(ours, np.ndarray)
    scale = 32 / max(shape)
    height, width = (max(1, round(side * scale)) for side in shape)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(grey.astype(np.float64))[None, None],
        size=(height, width),
        mode="bilinear",
        align_corners=False,
    )[0, 0].numpy()
    levels = np.rint((theirs - theirs.min()) * 255 / (theirs.max() - theirs.min()))
    top, left = (32 - height) // 2, (32 - width) // 2
    assert np.abs(ours[top : top + height, left : left + width] - levels).max() <= 1


def test_the_other_resize_averages_what_a_pixel_covers() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (128, 64))
    stripes[:8] = 0
    sharp, smooth = (
        prepared(encoded(Image.fromarray(stripes)), Preparation(32, resize))
        for resize in ("paper", "antialiased")
    )
    assert isinstance(smooth, np.ndarray)
    assert isinstance(sharp, np.ndarray)
    assert smooth[8:, 4:-4].std() < 2
    assert not np.array_equal(sharp, smooth)


def test_a_photograph_is_told_from_a_radiograph_saved_in_colour() -> None:
    rng = np.random.default_rng(0)
    photograph = Image.fromarray(rng.integers(0, 255, (60, 60, 3), np.uint8))
    refused = prepared(encoded(photograph), paper(32))
    assert isinstance(refused, Unreadable)
    assert refused.code is RejectionCode.COLOUR
    radiograph = ramp(200, 200, 0, 255).convert("RGB")
    radiograph.paste((255, 0, 0), (5, 5, 15, 15))  # a coloured mark
    assert isinstance(prepared(encoded(radiograph, "JPEG"), paper(32)), np.ndarray)


def test_a_prepared_picture_is_prepared_already() -> None:
    once = prepared(encoded(ramp(20, 30)), paper(32))
    assert isinstance(once, np.ndarray)
    twice = prepared(encode_png(once), paper(32))
    assert np.array_equal(once, twice)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1"])
def test_every_mode_becomes_grey(mode: str) -> None:
    fitted = prepared(encoded(ramp(24, 24, 0, 255).convert(mode)), paper(24))
    assert isinstance(fitted, np.ndarray)
    assert fitted[0, 0] < fitted[-1, -1]


def test_sixteen_bits_keep_their_order_beyond_eight() -> None:
    levels = np.linspace(30_000, 60_000, 32 * 32).reshape(32, 32).astype(np.uint16)
    fitted = prepared(encoded(Image.fromarray(levels)), paper(32))
    assert isinstance(fitted, np.ndarray)
    assert len(np.unique(fitted)) > 250
    assert (np.diff(fitted.ravel().astype(int)) >= 0).all()


def test_jpeg_is_read() -> None:
    assert isinstance(prepared(encoded(ramp(40, 40), "JPEG"), paper(32)), np.ndarray)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a picture",
        encoded(NOISE)[:400],
        encoded(NOISE, "JPEG")[:700],
        encoded(NOISE, "GIF"),
        encoded(NOISE, "BMP"),
    ],
    ids=["empty", "text", "cut PNG", "cut JPEG", "GIF", "BMP"],
)
def test_what_does_not_decode_is_no_picture(content: bytes) -> None:
    assert isinstance(prepared(content, paper(32)), Unreadable)


def test_one_grey_level_is_no_picture() -> None:
    assert prepared(encoded(Image.new("L", (9, 9), 77)), paper(32)) == Unreadable(
        "the image is of one grey level"
    )


@pytest.mark.parametrize("side", [7_072, 10_000, 30_000, 2**31 - 1])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    png += struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 0) + b"IDAT"
    assert side * side > PIXEL_LIMIT
    refused = prepared(png, paper(32))
    assert isinstance(refused, Unreadable)
    assert "megapixels" in refused.reason


@given(content=st.binary(max_size=200), cut=st.integers(0, 300), at=st.integers(0, 300))
@settings(max_examples=200, deadline=None)
def test_no_damage_escapes(content: bytes, cut: int, at: int) -> None:
    good = encoded(ramp(16, 16))
    damaged = good[:at] + content + good[at + cut :]
    result = prepared(damaged, paper(16))
    assert isinstance(result, Unreadable | np.ndarray)


def test_png_bytes_come_back_as_the_same_pixels_with_their_text() -> None:
    pixels = np.asarray(ramp(32, 32))
    content = encode_png(pixels, {"synthorax": '{"phantom": true}'})
    with Image.open(io.BytesIO(content)) as image:
        assert image.text["synthorax"] == '{"phantom": true}'  # pyright: ignore[reportAttributeAccessIssue]
        assert pixel_digest(np.asarray(image)) == pixel_digest(pixels)
    assert encode_png(pixels) == encode_png(pixels)
