"""Pictures that occur twice are found; pictures that are merely alike are not."""

import io

import numpy as np
import pytest
from PIL import Image

from services.datasets.importers import duplicates
from services.datasets.importers.duplicates import BITS, NEAR_BITS, Pair, find
from services.datasets.importers.images import descriptor
from services.datasets.importers.source import Preparation
from tests.datasets import trees
from tests.datasets.reading import prepared

RNG = np.random.default_rng(5)


def flipped(bits: bytes, count: int) -> bytes:
    """`bits` with `count` of them changed."""
    loose = np.unpackbits(np.frombuffer(bits, np.uint8))
    loose[RNG.choice(BITS, count, replace=False)] ^= 1
    return np.packbits(loose).tobytes()


def test_every_pair_within_the_limit_is_found_and_no_other() -> None:
    strangers = [RNG.bytes(BITS // 8) for _ in range(400)]
    relatives = [flipped(strangers[n], n) for n in range(2 * NEAR_BITS)]
    everyone = [*strangers, *relatives]
    pairs = find([str(n) for n in range(len(everyone))], everyone)
    words = np.unpackbits(np.array([list(e) for e in everyone], np.uint8), axis=1).astype(int)
    apart = words @ (1 - words.T) + (1 - words) @ words.T
    wanted = {
        (i, j): int(apart[i, j])
        for i, j in zip(*np.nonzero(apart <= NEAR_BITS), strict=True)
        if i < j
    }
    assert {(p.first, p.other): p.distance for p in pairs} == wanted
    assert len(wanted) >= NEAR_BITS + 1
    assert not any(p.identical for p in pairs)


def test_identical_pictures_are_paired_with_the_first_and_compared_once() -> None:
    one, other = RNG.bytes(32), RNG.bytes(32)
    near = flipped(one, 3)
    pairs = find(["a", "b", "a", "a", "c"], [one, other, one, one, near])
    assert pairs == [
        Pair(0, 2, identical=True, distance=0),
        Pair(0, 3, identical=True, distance=0),
        Pair(0, 4, identical=False, distance=3),
    ]


@pytest.mark.parametrize("count", [0, 1])
def test_few_pictures_have_no_twins(count: int) -> None:
    assert find(["a"] * count, [bytes(32)] * count) == []


def test_the_search_ends_where_everything_is_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 50)
    pairs = find([str(n) for n in range(500)], [bytes(32)] * 500)
    assert 50 <= len(pairs) < 50 + duplicates.BANDS


def test_a_picture_saved_anew_is_near_and_another_patient_is_not() -> None:
    originals = trees.phantoms(12, 256, seed=3)

    def described(pixels: np.ndarray, kind: str, **more: int) -> bytes:
        sink = io.BytesIO()
        Image.fromarray(pixels).save(sink, kind, **more)
        found = prepared(sink.getvalue(), Preparation(64, "antialiased"))
        assert isinstance(found, np.ndarray)
        return descriptor(found)

    kept = [described(p, "PNG") for p in originals]
    again = [
        described(np.clip(p * 0.8 + 20, 0, 255).astype(np.uint8), "JPEG", quality=60)
        for p in originals
    ]
    everyone = [*kept, *again]
    pairs = {(p.first, p.other) for p in find([str(n) for n in range(24)], everyone)}
    assert {(n, n + 12) for n in range(12)} <= pairs
    assert len(pairs) <= 14
