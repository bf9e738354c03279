"""ConvNeXt written from its paper (Liu et al. 2022, arXiv 2201.03545), on tensors under the names
that its authors, timm and torchvision give them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-6
KINDS, COLOURS, PATCH = 10, 3, 4

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Names:
    """Prefixes, each with its `.weight` and `.bias`; `scale` is a tensor's whole name."""

    stem: str
    stem_norm: str
    down_norm: Callable[[int], str]
    down: Callable[[int], str]
    depthwise: Callable[[int, int], str]
    norm: Callable[[int, int], str]
    widen: Callable[[int, int], str]
    narrow: Callable[[int, int], str]
    scale: Callable[[int, int], str]
    last_norm: str
    head: str
    scale_dims: int = 1


PUBLISHED = {
    "authors": Names(
        stem="downsample_layers.0.0",
        stem_norm="downsample_layers.0.1",
        down_norm=lambda i: f"downsample_layers.{i}.0",
        down=lambda i: f"downsample_layers.{i}.1",
        depthwise=lambda i, j: f"stages.{i}.{j}.dwconv",
        norm=lambda i, j: f"stages.{i}.{j}.norm",
        widen=lambda i, j: f"stages.{i}.{j}.pwconv1",
        narrow=lambda i, j: f"stages.{i}.{j}.pwconv2",
        scale=lambda i, j: f"stages.{i}.{j}.gamma",
        last_norm="norm",
        head="head",
    ),
    "timm": Names(
        stem="stem.0",
        stem_norm="stem.1",
        down_norm=lambda i: f"stages.{i}.downsample.0",
        down=lambda i: f"stages.{i}.downsample.1",
        depthwise=lambda i, j: f"stages.{i}.blocks.{j}.conv_dw",
        norm=lambda i, j: f"stages.{i}.blocks.{j}.norm",
        widen=lambda i, j: f"stages.{i}.blocks.{j}.mlp.fc1",
        narrow=lambda i, j: f"stages.{i}.blocks.{j}.mlp.fc2",
        scale=lambda i, j: f"stages.{i}.blocks.{j}.gamma",
        last_norm="head.norm",
        head="head.fc",
    ),
    "torchvision": Names(
        stem="features.0.0",
        stem_norm="features.0.1",
        down_norm=lambda i: f"features.{2 * i}.0",
        down=lambda i: f"features.{2 * i}.1",
        depthwise=lambda i, j: f"features.{2 * i + 1}.{j}.block.0",
        norm=lambda i, j: f"features.{2 * i + 1}.{j}.block.2",
        widen=lambda i, j: f"features.{2 * i + 1}.{j}.block.3",
        narrow=lambda i, j: f"features.{2 * i + 1}.{j}.block.5",
        scale=lambda i, j: f"features.{2 * i + 1}.{j}.layer_scale",
        last_norm="classifier.0",
        head="classifier.2",
        scale_dims=3,
    ),
}


def tensors(
    names: Names, depths: tuple[int, ...], widths: tuple[int, ...], draw: Callable[..., Tensor]
) -> dict[str, Tensor]:
    """All of a network for colour pictures; `draw` makes a tensor of a shape."""
    made: dict[str, Tensor] = {}

    def module(name: str, *shape: int) -> None:
        made[f"{name}.weight"], made[f"{name}.bias"] = draw(*shape), draw(shape[0])

    module(names.stem, widths[0], COLOURS, PATCH, PATCH)
    module(names.stem_norm, widths[0])
    for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        if i:
            module(names.down_norm(i), widths[i - 1])
            module(names.down(i), width, widths[i - 1], 2, 2)
        for j in range(depth):
            module(names.depthwise(i, j), width, 1, 7, 7)
            module(names.norm(i, j), width)
            module(names.widen(i, j), 4 * width, width)
            module(names.narrow(i, j), width, 4 * width)
            made[names.scale(i, j)] = draw(width, *[1] * (names.scale_dims - 1))
    module(names.last_norm, widths[-1])
    module(names.head, KINDS, widths[-1])
    return made


def features(names: Names, of: Tensors, depths: tuple[int, ...], x: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, widths[-1]), what the head sees."""

    def pair(name: str) -> tuple[Tensor, Tensor]:
        return of[f"{name}.weight"], of[f"{name}.bias"]

    def normed(x: Tensor, name: str) -> Tensor:  # over the channels, which come second
        y = functional.layer_norm(x.movedim(1, -1), x.shape[1:2], *pair(name), EPSILON)
        return y.movedim(-1, 1)

    x = normed(functional.conv2d(x, *pair(names.stem), stride=PATCH), names.stem_norm)
    for i, depth in enumerate(depths):
        if i:
            x = functional.conv2d(normed(x, names.down_norm(i)), *pair(names.down(i)), stride=2)
        for j in range(depth):
            y = functional.conv2d(x, *pair(names.depthwise(i, j)), padding=3, groups=x.shape[1])
            y = normed(y, names.norm(i, j)).movedim(1, -1)
            y = functional.gelu(functional.linear(y, *pair(names.widen(i, j))))
            y = functional.linear(y, *pair(names.narrow(i, j)))
            x = x + (of[names.scale(i, j)].flatten() * y).movedim(-1, 1)
    return normed(x.mean(dim=(2, 3)), names.last_norm)


def random_draw(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator) / 3
