"""Augmentation: whom it changes and how, drawn from its generators alone."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from services.training.classifier.augmentation import Augmentation
from services.training.classifier.network import standardise
from services.training.classifier.presets import PRESETS
from tests.training.classifier.problems import squares

STILL = Augmentation(affine=0, contrast=0, brightness=0, noisy=0)


def pictures(count: int) -> torch.Tensor:
    return standardise(torch.from_numpy(squares(count, 1).images))


def look(augment: Augmentation, images: torch.Tensor, seed: int) -> torch.Tensor:
    noise = torch.Generator().manual_seed(seed)
    return augment(images.clone(), np.random.default_rng(seed), noise)


@pytest.mark.parametrize("preset", ["fast", "paper"])
def test_it_follows_its_generators_alone(preset) -> None:
    augment, images = PRESETS[preset].recipe.augmentation, pictures(8)
    torch.testing.assert_close(look(augment, images, 1), look(augment, images, 1), rtol=0, atol=0)
    assert not torch.equal(look(augment, images, 1), look(augment, images, 2))


def test_the_fast_one_is_slight() -> None:
    images = pictures(8)
    assert (look(Augmentation(), images, 1) - images).abs().mean() < 0.2


def test_none_is_the_image_itself() -> None:
    images = pictures(4)
    assert torch.equal(look(STILL, images, 1), images)


def test_no_move_is_the_image_itself() -> None:
    images = pictures(4)
    still = Augmentation(shift=0, rotation_rad=0, scale=0, contrast=0, brightness=0, noise=0)
    torch.testing.assert_close(look(still, images, 1), images)


def test_a_shift_moves_without_mirroring() -> None:
    image = torch.zeros(1, 1, 32, 32)
    image[..., 16, 4] = 1
    shift = Augmentation(shift=0.25, rotation_rad=0, scale=0, contrast=0, brightness=0, noise=0)
    for seed in range(5):
        moved = look(shift, image, seed)
        if moved.sum() > 0.5:
            column = (moved.sum((0, 1, 2)) * torch.arange(32)).sum() / moved.sum()
            assert column < 4 + 0.25 * 32 + 1


def test_flips_are_exact_and_of_both_directions() -> None:
    images = pictures(64)
    flips = Augmentation(flip=0.5, affine=0, contrast=0, brightness=0, noisy=0)
    seen = dict.fromkeys(("as it was", "across", "down", "both"), 0)
    for before, after in zip(images, look(flips, images, 3), strict=True):
        views = (before, before.flip(-1), before.flip(-2), before.flip(-1, -2))
        (found,) = [name for name, v in zip(seen, views, strict=True) if torch.equal(v, after)]
        seen[found] += 1
    assert min(seen.values()) >= 8  # of 64, 16 are expected of each


def test_the_published_noise_is_of_half_of_the_images() -> None:
    noise = Augmentation(affine=0, contrast=0, brightness=0, noisy=0.5, noise=0.3)
    images = pictures(200)
    grain = look(noise, images, 5) - images
    noisy = grain.flatten(1).std(dim=1) > 0
    assert 70 < noisy.sum() < 130
    assert grain[noisy].std().item() == pytest.approx(0.3, rel=0.01)
    assert grain[noisy].mean().item() == pytest.approx(0, abs=0.005)


def test_a_move_is_the_affine_map_of_its_draws() -> None:
    """Against the map of each single image, with the border repeated."""
    move = PRESETS["paper"].recipe.augmentation
    images = pictures(3)
    draws = np.random.default_rng(4).uniform(-1, 1, (4, 3)).astype(np.float32)
    moved = move._moved(images, draws)
    for image, found, (turn, size, right, down) in zip(images, moved, draws.T, strict=True):
        zoom, angle = 1.1**size, 0.4 * turn
        linear = zoom * np.array(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        )
        shift = 2 * 12 / 256 * np.array([right, down])
        theta = torch.tensor(np.column_stack([linear, shift])[None], dtype=torch.float32)
        grid = functional.affine_grid(theta, [1, 1, 32, 32], align_corners=False)
        alone = functional.grid_sample(
            image[None], grid, padding_mode="border", align_corners=False
        )
        torch.testing.assert_close(found, alone[0], rtol=1e-4, atol=1e-4)
    assert moved.min() >= images.min()  # nothing comes in from outside
