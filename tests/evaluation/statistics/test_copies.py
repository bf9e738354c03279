"""Near-identical pictures are found through what people do to pictures; others are not."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from api_schemas.imports import PhantomSite
from services.datasets.importers.phantom import draw, population
from services.evaluation.statistics.copies import THRESHOLD, UNMOVED, likeness, middle, windows

Picture = NDArray[np.uint8]
COUNT = 24


@pytest.fixture(scope="module")
def pictures() -> Picture:
    return draw(population(PhantomSite.A, COUNT, seed=1)[:COUNT], 128)


def jpeg(px: Picture) -> Picture:
    sink = io.BytesIO()
    Image.fromarray(px).save(sink, "JPEG", quality=40)
    return np.asarray(Image.open(sink))


def resized(px: Picture) -> Picture:
    return np.asarray(Image.fromarray(px).resize((64, 64), Image.Resampling.BILINEAR))


def darker(px: Picture) -> Picture:
    return (255 * (px / 255) ** 1.5).astype(np.uint8)


def mirrored(px: Picture) -> Picture:
    return px[:, ::-1]


def moved(px: Picture) -> Picture:
    return np.pad(px, ((4, 0), (4, 0)), mode="edge")[:128, :128]


@pytest.mark.parametrize("change", [jpeg, resized, darker, mirrored, moved])
def test_a_changed_copy_is_found(pictures: Picture, change: Callable[[Picture], Picture]) -> None:
    index = np.stack([middle(px) for px in pictures])
    like = likeness(np.stack([windows(change(px)) for px in pictures]), index)
    assert (like.diagonal() > THRESHOLD).all()
    assert (like.argmax(axis=1) == np.arange(COUNT)).all()


def test_the_unmoved_window_is_the_middle(pictures: Picture) -> None:
    np.testing.assert_array_equal(windows(pictures[0])[UNMOVED], middle(pictures[0]))
    assert windows(pictures[0]).shape == (18, 1024)


def test_noise_is_like_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64), dtype=np.uint8)
    index = np.stack([middle(px) for px in noise])
    like = likeness(np.stack([windows(px) for px in noise]), index)
    np.fill_diagonal(like, 0)
    assert like.max() < 0.6


@pytest.mark.parametrize("shape", [(16, 16), (7, 300)])
def test_a_flat_or_odd_picture_has_a_descriptor(shape: tuple[int, int]) -> None:
    assert np.isfinite(middle(np.full(shape, 9, np.uint8))).all()
