"""The presets: which network, and how it is trained; numbers, no code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from services.training.classifier.augmentation import Augmentation
from services.training.classifier.network import Shape

TOKENS = 8
"""Stem outputs along a side in the `fast` preset; every working size is a multiple of it."""


@dataclass(frozen=True)
class Recipe:
    """What of a training its request does not say.

    The learning rate rises and falls (`cosine`) or stays. Targets are pulled inwards by
    `smoothing`; a share `mixing` of the batches is mixed.
    """

    augmentation: Augmentation
    optimiser: Literal["adamw", "lion"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    rate: Literal["cosine", "constant"] = "cosine"
    ema: float = 0.999
    smoothing: float = 0.0
    mixing: float = 0.0


@dataclass(frozen=True)
class Preset:
    """`shape` is a function of the images' size."""

    shape: Callable[[int], Shape]
    recipe: Recipe


def _fast(size_px: int) -> Shape:
    """8 x 8 tokens of an image of any size: a step costs about the same at 32 and at 64 px, and
    the last stage sees the whole chest. The layer scale that was published needs thousands of
    steps before a block does anything.
    """
    return Shape(patch=size_px // TOKENS, depths=(1, 1, 1), widths=(32, 96, 256))


def _paper(_size_px: int) -> Shape:
    """ConvNeXt-Base."""
    return Shape(patch=4, depths=(3, 3, 27, 3), widths=(128, 256, 512, 1024), layer_scale=1e-6)


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "fast": Preset(_fast, Recipe(Augmentation())),
        # As published. How its learning rate went is unknown: ours stays.
        "paper": Preset(
            _paper,
            Recipe(
                Augmentation(
                    flip=0.5,
                    affine=0.5,
                    shift=12 / 256,
                    rotation_rad=0.4,
                    scale=0.1,
                    contrast=0.0,
                    brightness=0.0,
                    noisy=0.5,
                    noise=0.3,
                ),
                optimiser="lion",
                betas=(0.9, 0.99),
                rate="constant",
                ema=0.9999,
                smoothing=0.1,
                mixing=0.5,
            ),
        ),
    }
)
