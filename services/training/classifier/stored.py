"""A stored classifier as a network again, and as an ONNX model that needs nothing of this code."""

import warnings
from pathlib import Path
from typing import Any

import torch
from onnx import helper
from torch import Tensor, nn

from services.training.classifier import checkpoints
from services.training.classifier.network import Network, Shape

EXAMPLE = 2
"""Images of the batch that is traced; one would be taken for a constant."""


def restored(folder: Path) -> tuple[Network, dict[str, Any]]:
    """The network, ready to score, and what its weights say of themselves."""
    tensors, record = checkpoints.read(folder)
    shape = Shape(**{name: _tuple(value) for name, value in record["shape"].items()})
    network = Network(shape, len(record["labels"]))
    network.load_state_dict(tensors)
    return network.eval(), record


def to_onnx(folder: Path) -> bytes:
    """`pixels` (n, 1, size, size), grey levels 0 to 255 as float32, to `probabilities` (n, L) in
    the order of the property `labels`. In float32, whatever the training's precision.
    """
    network, record = restored(folder)
    size = record["size_px"]
    example = torch.zeros(EXAMPLE, 1, size, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch's own exporter to itself
        program = torch.onnx.export(
            _Scores(network).eval(),
            (example,),
            input_names=["pixels"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # noqa: S101 - what this exporter returns without a file
    model = program.model_proto
    told = {"labels": ", ".join(record["labels"]), "size_px": str(size), "format": record["format"]}
    helper.set_model_props(model, told)
    return model.SerializeToString()


class _Scores(nn.Module):
    """From grey levels to probabilities."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.sigmoid(self.network(pixels / 127.5 - 1.0))


def _tuple(value: object) -> Any:
    return tuple(value) if isinstance(value, list) else value
