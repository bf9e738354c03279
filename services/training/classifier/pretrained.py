"""Weights to begin with: those of a ConvNeXt that was trained on other pictures."""

import hashlib

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from services.training.classifier.layouts import HEAD, STEM, renamed
from services.training.classifier.network import Network
from services.training.ports.engine import Weights, WeightsMismatchError

SCALE = "layer_scale_parameter"
NAMED = 3
"""So many tensors are named when some do not fit."""


def begin(network: Network, weights: Weights) -> None:
    """Put the weights into all of the network but its head.

    The file names tensors as one of `layouts` does. Of a stem for colours the channels are summed:
    to a grey picture it answers as the original does to the same picture in colour.
    Raises `WeightsMismatchError`.
    """
    there = _read(weights)
    ours = renamed(there)
    found = {ours[name]: t for name, t in there.items() if not ours[name].startswith(HEAD)}
    stem = found.get(STEM)
    if stem is not None and stem.ndim == 4:  # noqa: PLR2004 - (width, channels, patch, patch)
        found[STEM] = stem.float().sum(dim=1, keepdim=True)
    for name, tensor in found.items():
        if name.endswith(SCALE) and tensor.ndim == 3:  # noqa: PLR2004 - (width, 1, 1) in torchvision
            found[name] = tensor.flatten()
    wanted = network.convnext.state_dict()
    body = {name: tuple(t.shape) for name, t in wanted.items() if not name.startswith(HEAD)}
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    _refuse("lacks", sorted(body.keys() - shapes.keys()))
    _refuse("also holds", sorted(shapes.keys() - body.keys()))
    _refuse(
        "has another shape of",
        [f"{n} {shapes[n]}, not {body[n]}" for n in sorted(body) if shapes[n] != body[n]],
    )
    with torch.no_grad():
        for name, tensor in found.items():
            wanted[name].copy_(tensor)


def _read(weights: Weights) -> dict[str, Tensor]:
    try:
        content = weights.fetch().read_bytes()
    except OSError as error:
        raise WeightsMismatchError("it cannot be read") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != weights.sha256:
        raise WeightsMismatchError(f"its SHA-256 is {digest}")
    try:
        return load(content)
    except SafetensorError as error:
        raise WeightsMismatchError("it is no safetensors file") from error


def _refuse(what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        raise WeightsMismatchError(f"it {what} {', '.join(names[:NAMED])}{more}")
