"""The networks on offer and how each is trained: numbers, no code."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self


@dataclass(frozen=True)
class Architecture:
    """A U-Net. One entry of `channels` and `attention` a level, the finest first.

    Attention has heads of `head_width`, or `heads` at every level when that is given; `middle`
    puts it between the way down and the way up too. A second output channel is what a network of
    learned range says of the variance. `grain` is the standard deviation of what a pixel does not
    share with its neighbours, as the network may assume it (`Network.linear`); 1 is plain
    v-prediction.
    """

    size_px: int
    unshuffle: int
    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    maps: int = 8
    layers: int = 1
    groups: int = 8
    head_width: int = 16
    heads: int | None = None
    middle: bool = False
    outputs: int = 1
    grain: float = 1.0

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """From the `asdict` of one that went through JSON, where tuples became lists."""
        levels: dict[str, Any] = {name: tuple(value[name]) for name in ("channels", "attention")}
        return cls(**(value | levels))


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The learning rate rises over `warmup` steps, then falls to 0.

    What a condition passes through learns `boost` times as fast: it starts far from the picture.
    `loss` is one of `losses.LOSSES`. Of a batch, at most `micro_batch` images go through the
    network of one process at once (None: all); that is for the memory, the step is the same.
    """

    batch: int
    learning_rate: float
    boost: float = 4.0
    warmup: int = 50
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    drop: float = 0.1
    mask: float = 0.2
    hide: float = 0.5
    optimiser: str = "adamw"
    loss: str = "clean-image"
    precision: str = "float32"
    micro_batch: int | None = None


@dataclass(frozen=True)
class Preset:
    architecture: Architecture
    recipe: Recipe
    encoder: str = "masked/1"


PAPER = Architecture(
    256,
    unshuffle=1,
    channels=(128, 128, 256, 256, 512, 512),
    attention=(False, False, False, True, True, True),
    maps=0,
    layers=2,
    groups=32,
    heads=4,
    middle=True,
    outputs=2,
)
"""The published network: 125,643,138 parameters with the condition's part."""

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "tiny-32": Preset(
            Architecture(32, unshuffle=2, channels=(32, 64), attention=(False, False)),
            Recipe(batch=32, learning_rate=2e-3, ema=0.995),
        ),
        "small-64": Preset(
            Architecture(64, unshuffle=4, channels=(48, 96), attention=(False, False), grain=0.03),
            Recipe(batch=32, learning_rate=2e-3, ema=0.995),
        ),
        "paper-256": Preset(
            PAPER,
            # As published: 36 images on each of four GPUs. How its learning rate went is unknown;
            # ours rises and falls. Attributes are never hidden one by one: the encoder has no
            # word for unknown.
            Recipe(
                batch=144,
                micro_batch=36,
                optimiser="lion",
                learning_rate=1e-5,
                boost=1.0,
                warmup=1000,
                weight_decay=5e-4,
                ema=0.9999,
                mask=0.0,
                loss="hybrid",
                precision="bfloat16",
            ),
            encoder="paper22",
        ),
    }
)
