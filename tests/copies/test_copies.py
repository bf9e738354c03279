"""Near-identical pictures are found through what people do to pictures; others are not."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from api_schemas.imports import PhantomSite
from services.copies import search as searching
from services.copies.calibration import (
    ALTERATIONS,
    FALSE_FLAGS,
    LEAST,
    above,
    altered,
    null,
    threshold,
)
from services.copies.pictures import (
    VARIANTS,
    descriptors,
    mirrored,
    patches,
    picture,
    variants,
)
from services.copies.search import Nearest, Queries, search
from services.datasets.importers.phantom import draw, population
from services.evaluation.service.near import THRESHOLD

Picture = NDArray[np.uint8]
COUNT = 24


def compared(pixels: Picture) -> NDArray[np.float16]:
    return np.stack([picture(each) for each in pixels])


def nearest(asked: Picture, among: Picture) -> Nearest:
    return search(Queries.of([compared(asked)]), compared(among))


@pytest.fixture(scope="module")
def phantoms() -> Picture:
    return draw(population(PhantomSite.A, 400, seed=1)[:400], 64)


@pytest.fixture(scope="module")
def limit(phantoms: Picture) -> float:
    """What the first half's nearest pictures of the other half call a copy."""
    return threshold(nearest(phantoms[200:], phantoms[:200]).likeness)


@pytest.fixture(scope="module")
def large() -> Picture:
    return draw(population(PhantomSite.A, COUNT, seed=1)[:COUNT], 128)


def jpeg(px: Picture) -> Picture:
    sink = io.BytesIO()
    Image.fromarray(px).save(sink, "JPEG", quality=40)
    return np.asarray(Image.open(sink))


def resized(px: Picture) -> Picture:
    return np.asarray(Image.fromarray(px).resize((64, 64), Image.Resampling.BILINEAR))


def darker(px: Picture) -> Picture:
    return (255 * (px / 255) ** 1.5).astype(np.uint8)


def turned_between(px: Picture) -> Picture:
    """Half way between the moves of the index, in every one of them."""
    turned = Image.fromarray(px).rotate(1.5, Image.Resampling.BILINEAR, translate=(3, 3))
    return np.asarray(turned.resize((126, 126), Image.Resampling.BILINEAR).resize((128, 128)))


@pytest.mark.parametrize("change", [jpeg, resized, darker, turned_between])
def test_a_changed_copy_is_found(large: Picture, change: Callable[[Picture], Picture]) -> None:
    found = search(Queries.of([compared([change(px) for px in large])]), compared(large))
    assert (found.place == np.arange(COUNT)).all()
    assert (found.likeness > THRESHOLD).all()


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_injected_copies_are_found_at_one_percent_false_flags(
    phantoms: Picture, limit: float, alteration: str
) -> None:
    among = phantoms[:200]
    copies = [altered(px, alteration, seed) for seed, px in enumerate(among[:40])]
    found = nearest(np.stack(copies), among)
    assert (above(found.likeness, limit) & (found.place == np.arange(40))).mean() >= 0.95


def test_noise_is_like_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 64, 64), dtype=np.uint8)
    assert nearest(noise[:4], noise[4:]).likeness.max() < 0.6


@pytest.mark.parametrize("shape", [(16, 16), (7, 300)])
def test_a_flat_or_odd_picture_can_be_compared(shape: tuple[int, int]) -> None:
    flat = compared(np.full((2, *shape), 9, np.uint8))
    found = search(Queries.of([flat]), flat)
    assert np.isfinite(found.likeness).all()


def test_the_index_holds_the_unmoved_picture_among_its_moves(large: Picture) -> None:
    pictures = compared(large[:2])
    unmoved = int(np.flatnonzero(~VARIANTS.any(axis=1))[0])
    np.testing.assert_allclose(
        variants(pictures)[:, unmoved], descriptors(patches(pictures)).T, atol=2e-5
    )


def test_a_mirrored_patch_is_the_patch_of_the_mirror_image(large: Picture) -> None:
    one, other = compared(large[:1]), compared(large[:1, :, ::-1])
    np.testing.assert_allclose(mirrored(patches(one)), patches(other), atol=2e-3)


def test_blocks_and_tiles_do_not_show(large: Picture, monkeypatch) -> None:
    whole = nearest(large[:, ::-1, ::-1], large)
    for name, small in {"BLOCK": 5, "TILE": 3, "PAIRS": 7}.items():
        monkeypatch.setattr(searching, name, small)
    parts = nearest(large[:, ::-1, ::-1], large)
    np.testing.assert_array_equal(whole.place, parts.place)
    np.testing.assert_allclose(whole.likeness, parts.likeness, atol=1e-5)


def test_what_is_kept_apart_is_never_the_answer(large: Picture) -> None:
    pictures = compared(large)
    found = search(Queries.of([pictures]), pictures, lambda a, b: np.eye(COUNT, dtype=bool)[:, a:b])
    assert (found.place != np.arange(COUNT)).all()
    nobody = search(Queries.of([pictures]), pictures, lambda a, b: np.ones((COUNT, b - a), bool))
    assert (nobody.place == -1).all()
    assert (nobody.likeness == -1).all()


def test_a_new_value_passes_the_threshold_as_often_as_said() -> None:
    """For any continuous distribution, however few values the threshold was made of."""
    rng = np.random.default_rng(0)
    for n in (LEAST, 250):
        wrong = [
            above(rng.gumbel(size=1), threshold(rng.gumbel(size=n).astype(np.float32)))[0]
            for _ in range(20_000)
        ]
        assert np.mean(wrong) == pytest.approx(FALSE_FLAGS, abs=0.0025)


def test_too_few_pictures_give_no_threshold() -> None:
    like = np.linspace(0.5, 0.9, LEAST - 1, dtype=np.float32)
    assert null(like, [f"p{n}" for n in range(LEAST - 1)]) is None


def test_the_null_rate_is_not_flattered_by_pictures_that_set_the_threshold() -> None:
    """One patient's many pictures are like each other's neighbours: judged by the others' only."""
    like = np.concatenate([np.linspace(0.5, 0.9, 300), np.full(30, 0.95)]).astype(np.float32)
    patients = [f"p{n}" for n in range(300)] + ["many"] * 30
    told = null(like, patients)
    assert told is not None
    assert told.rate >= 30 / 330
