"""Mixup (Zhang et al. 2018, arXiv 1710.09412) and cutmix (Yun et al. 2019, arXiv 1905.04899)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ALPHA = 1.0
"""lambda ~ Beta(ALPHA, ALPHA): every share is equally likely."""


@dataclass(frozen=True)
class Mixed:
    """Whose image each one holds besides its own, (B,), and the share of its own."""

    partner: Tensor
    share: float


def mix(images: Tensor, rng: np.random.Generator, chance: float) -> Mixed | None:
    """Mix a batch (B, 1, H, W) in place with itself in another order: mixup or cutmix, each as
    often, together in `chance` of the batches. None: it was left alone.
    """
    if rng.random() >= chance:
        return None
    partner = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    share, blend = float(rng.beta(ALPHA, ALPHA)), rng.random() < 0.5  # noqa: PLR2004 - a coin
    if blend:
        images.copy_(images[partner].lerp_(images, share))
        return Mixed(partner, share)
    height, width = images.shape[-2:]
    side = math.sqrt(1.0 - share)
    top, bottom = _span(rng, side, height)
    left, right = _span(rng, side, width)
    images[..., top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    cut = (bottom - top) * (right - left) / (height * width)
    return Mixed(partner, 1.0 - cut)


def _span(rng: np.random.Generator, side: float, pixels: int) -> tuple[int, int]:
    """A stretch of `side` of the pixels around any of them, as far as the image goes."""
    half, centre = round(side * pixels) // 2, int(rng.integers(pixels))
    return max(0, centre - half), min(pixels, centre + half)
