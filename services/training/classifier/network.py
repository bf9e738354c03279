"""The networks: presets as shapes, and one ConvNeXt made from a shape."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from transformers.models.convnext.configuration_convnext import ConvNextConfig
from transformers.models.convnext.modeling_convnext import ConvNextForImageClassification

from services.training.ports.engine import EngineError

TOKENS = 8
"""Stem outputs along a side in the `fast` preset; every working size is a multiple of it."""


@dataclass(frozen=True)
class Shape:
    """What determines a ConvNeXt's parameters besides the number of labels."""

    patch: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]


def preset_shape(preset: str, size_px: int) -> Shape:
    """The shape of a preset at a working size.

    `fast` makes 8 x 8 tokens of an image of any size: a step costs about the same at 32 and at
    64 px, and the last stage sees the whole chest.
    """
    if preset != "fast":
        msg = f"unknown preset: {preset}"
        raise EngineError(msg)
    return Shape(patch=size_px // TOKENS, depths=(1, 1, 1), widths=(32, 96, 256))


class Network(nn.Module):
    """Grayscale images to one logit a label."""

    def __init__(self, shape: Shape, labels: int) -> None:
        super().__init__()
        self.convnext = ConvNextForImageClassification(
            ConvNextConfig(
                num_channels=1,
                patch_size=shape.patch,
                num_stages=len(shape.depths),
                depths=list(shape.depths),
                hidden_sizes=list(shape.widths),
                # The published 1e-6 needs thousands of steps before a block does anything.
                layer_scale_init_value=1.0,
                num_labels=labels,  # pyright: ignore[reportCallIssue] - passed on to its base
            )
        )

    def forward(self, images: Tensor) -> Tensor:  # (B, 1, H, W) -> (B, L)
        return self.convnext(images).logits


def make_network(shape: Shape, labels: int, seed: int) -> Network:
    """A network whose initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(shape, labels)


def standardise(pixels: Tensor) -> Tensor:
    """Bytes (B, H, W) to floats (B, 1, H, W) in [-1, 1]."""
    return pixels.unsqueeze(1).float().div_(127.5).sub_(1.0)


def shape_record(shape: Shape) -> dict[str, object]:
    return asdict(shape)
