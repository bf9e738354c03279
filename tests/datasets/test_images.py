"""Preparing pictures: the paper's steps, and every file that is no picture."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.ExifTags import Base as ExifTag

from api_schemas.datasets import RejectionCode
from services.datasets.importers.images import encode_png, pixel_digest
from services.datasets.importers.preparing import PIXEL_LIMIT, Prepared, prepare
from services.datasets.importers.source import Pixels, Preparation, Unreadable
from tests.datasets.reading import prepared

FIELD = Path(__file__).parents[3] / "shared" / "field"


def paper(size_px: int) -> Preparation:
    return Preparation(size_px, "paper")


def fitted_to(size_px: int, content: bytes) -> Pixels:
    found = prepared(content, paper(size_px))
    assert isinstance(found, np.ndarray), found
    return found


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


def deep_png(channels: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, (H, W, C), each row filtered against the one above."""
    height, width, count = channels.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    rows = np.frombuffer(channels.astype(">u2").tobytes(), np.uint8).reshape(height, -1)
    filtered = rows - np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    data = zlib.compress(b"".join(b"\2" + row.tobytes() for row in filtered))
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[count]
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("channels", [1, 2, 3, 4], ids=["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("top", [255, 4095, 65_535])
def test_sixteen_bits_keep_their_levels_in_every_kind_of_png(channels: int, top: int) -> None:
    grey = np.random.default_rng(1).integers(0, top, (32, 32), np.uint16, endpoint=True)
    stacked = np.stack([grey] * channels, axis=2)
    if channels % 2 == 0:
        stacked[..., -1] = 65_535
    ours = prepare(deep_png(stacked), paper(32))
    alone = prepare(encoded(Image.fromarray(grey)), paper(32))
    assert isinstance(ours, Prepared)
    assert isinstance(alone, Prepared)
    assert np.array_equal(ours.pixels, alone.pixels)
    assert ours.notes == ()


def test_sixteen_bits_of_slightly_different_colours_become_their_luminance() -> None:
    grey = np.linspace(1000, 3000, 32 * 32).reshape(32, 32)
    tinted = np.stack([grey + 90, grey + 10, grey - 200], axis=2).astype(np.uint16)
    fitted = prepared(deep_png(tinted), paper(32))
    assert isinstance(fitted, np.ndarray)
    assert np.abs(fitted - np.rint((grey - 1000) * 255 / 2000)).max() <= 1


def test_a_photograph_of_sixteen_bits_is_told_too() -> None:
    photograph = np.random.default_rng(0).integers(0, 65_535, (60, 60, 3), np.uint16)
    refused = prepared(deep_png(photograph), paper(32))
    assert isinstance(refused, Unreadable)
    assert refused.code is RejectionCode.COLOUR


def test_transparency_is_ignored_and_noted() -> None:
    grey = np.asarray(NOISE)
    clear = Image.fromarray(np.stack([grey, np.full_like(grey, 9)], axis=2))
    deep = np.stack([grey.astype(np.uint16) * 256, np.full((30, 30), 5, np.uint16)], axis=2)
    for content in (encoded(clear), deep_png(deep)):
        found = prepare(content, paper(30))
        assert isinstance(found, Prepared)
        assert found.notes == ("the transparency of some pixels was ignored",)
        assert np.array_equal(found.pixels, fitted_to(30, encoded(NOISE)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_noted(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTag.Orientation] = orientation
    sink = io.BytesIO()
    ramp(40, 24, 0, 255).save(sink, kind, exif=exif)
    found = prepare(sink.getvalue(), paper(40))
    assert isinstance(found, Prepared)
    with Image.open(sink) as image:
        upright = ImageOps.exif_transpose(image)
    assert np.array_equal(found.pixels, fitted_to(40, encoded(upright)))
    assert found.notes == (() if orientation == 1 else ("EXIF Orientation was applied",))


@pytest.mark.parametrize("orientation", [0, 9, 70])
def test_an_unknown_exif_orientation_is_noted(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTag.Orientation] = orientation
    sink = io.BytesIO()
    NOISE.save(sink, "PNG", exif=exif)
    found = prepare(sink.getvalue(), paper(30))
    assert isinstance(found, Prepared)
    assert found.notes == ("EXIF Orientation could not be used and was ignored",)
    assert np.array_equal(found.pixels, fitted_to(30, encoded(NOISE)))


def test_damaged_exif_data_cost_no_image() -> None:
    sink = io.BytesIO()
    NOISE.save(sink, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xffgarbage")
    found = prepare(sink.getvalue(), paper(30))
    assert isinstance(found, Prepared)
    assert found.notes == ("EXIF Orientation could not be used and was ignored",)
    assert np.array_equal(found.pixels, fitted_to(30, encoded(NOISE)))


@pytest.mark.skipif(not FIELD.exists(), reason="no inputs from the field here (../shared/field)")
def test_pictures_from_the_field_keep_their_levels_and_stand_upright() -> None:
    deep = sorted((FIELD / "14_png_16bit_channels").glob("*.png"))
    shown = [fitted_to(48, file.read_bytes()) for file in deep]
    for each in shown:
        assert len(np.unique(each)) == 236
        assert np.array_equal(each, shown[0])
    turned = prepare((FIELD / "16_reasons" / "exif_rotated.jpg").read_bytes(), paper(48))
    assert isinstance(turned, Prepared)
    assert turned.notes == ("EXIF Orientation was applied",)


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
