"""Packed sources: built once, verified, bounded."""

import io
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.training.classifier.cache import SourceCache
from services.training.ports.engine import ImageMismatchError

PLENTY = 10**9


def png(pixels) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


class Source:
    """Images that count how often they are read."""

    def __init__(self, count: int, size_px: int = 16) -> None:
        rng = np.random.default_rng(1)
        self.images = rng.integers(0, 256, (count, size_px, size_px), dtype=np.uint8)
        self.reads: Counter[int] = Counter()

    def read(self, index: int) -> bytes:
        self.reads[index] += 1
        return png(self.images[index])


def test_a_source_is_read_once(tmp_path) -> None:
    source = Source(40)
    for cache in (SourceCache(tmp_path, PLENTY), SourceCache(tmp_path, PLENTY)):
        for _ in range(2):
            pixels = cache.open("a", 40, 16, source.read)
            np.testing.assert_array_equal(pixels, source.images)
    assert set(source.reads.values()) == {1}
    assert not pixels.flags.writeable


def test_damage_is_noticed_and_mended(tmp_path) -> None:
    source = Source(5)
    SourceCache(tmp_path, PLENTY).open("a", 5, 16, source.read)
    packed = tmp_path / "a" / "pixels.npy"
    content = bytearray(packed.read_bytes())
    content[-1] ^= 255
    packed.write_bytes(content)
    mended = SourceCache(tmp_path, PLENTY).open("a", 5, 16, source.read)
    np.testing.assert_array_equal(mended, source.images)
    assert set(source.reads.values()) == {2}


def test_a_failed_build_leaves_nothing(tmp_path) -> None:
    def broken(index: int) -> bytes:
        raise ConnectionError

    cache = SourceCache(tmp_path, PLENTY)
    with pytest.raises(ConnectionError):
        cache.open("a", 5, 16, broken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"no image", png(np.zeros((8, 16), np.uint8))])
def test_an_image_that_does_not_fit_is_a_typed_error(tmp_path, content) -> None:
    with pytest.raises(ImageMismatchError):
        SourceCache(tmp_path, PLENTY).open("a", 1, 16, lambda _: content)


def test_the_least_recently_used_goes_and_open_maps_stay(tmp_path: Path) -> None:
    source = Source(10)
    room_for_two = round(2.5 * (10 * 16 * 16 + 300))
    cache = SourceCache(tmp_path, room_for_two)
    first = cache.open("a", 10, 16, source.read)
    os.utime(tmp_path / "a", (1, 1))
    cache.open("b", 10, 16, source.read)
    os.utime(tmp_path / "b", (2, 2))
    cache.open("a", 10, 16, source.read)
    cache.open("c", 10, 16, source.read)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "c"]
    np.testing.assert_array_equal(first, source.images)
    cache.open("b", 10, 16, source.read)
    assert set(source.reads.values()) == {4}  # a, b, c, and b again
