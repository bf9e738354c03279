"""One ConvNeXt made from a shape."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from transformers.models.convnext.configuration_convnext import ConvNextConfig
from transformers.models.convnext.modeling_convnext import ConvNextForImageClassification


@dataclass(frozen=True)
class Shape:
    """What determines a ConvNeXt's parameters besides the number of labels.

    `layer_scale` is what the blocks' outputs are multiplied with at first. No path is dropped: how
    the paper had it is unknown.
    """

    patch: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    layer_scale: float = 1.0


NORM_EPSILON = 1e-6
"""Of every layer norm, as published; the library's last one would have 1e-12."""


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
                layer_scale_init_value=shape.layer_scale,
                layer_norm_eps=NORM_EPSILON,
                drop_path_rate=0.0,
                num_labels=labels,  # pyright: ignore[reportCallIssue] - passed on to its base
            )
        )

    def features(self, images: Tensor) -> Tensor:  # (B, 1, H, W) -> (B, widths[-1])
        return self.convnext.convnext(images).pooler_output

    def forward(self, images: Tensor) -> Tensor:  # (B, 1, H, W) -> (B, L)
        return self.convnext.classifier(self.features(images))


def predict(network: Network, images: Tensor, precision: str) -> Tensor:
    """Logits (B, L). `bfloat16` is for the features: the head would round scores to ties."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        features = network.features(images)
    return network.convnext.classifier(features.float())


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
