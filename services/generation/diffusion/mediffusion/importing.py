"""From a file of the authors' package to a weights file of ours."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from services.generation.diffusion.checkpoints import write_weights
from services.generation.diffusion.encoders import PublishedEncoder
from services.generation.diffusion.mediffusion.configuration import architecture, read_options
from services.generation.diffusion.mediffusion.file import plain, read
from services.generation.diffusion.mediffusion.weights import translate
from services.generation.diffusion.network import Network
from services.generation.ports.engine import Imported, KeysDiffer, Weights

FORMAT = "mediffusion"


def import_checkpoint(source: Path, destination: Path, wanted: Weights = "ema") -> Imported:
    """Write the network of `source` to `destination`, and say what it is.

    Without an average in the file the raw weights are taken. Raises `CheckpointRefused`; nothing
    is written then.
    """
    content = read(source)
    options = read_options(plain(content.get("hyper_parameters")))
    shape, encoder = architecture(options), PublishedEncoder()
    with torch.device("meta"):
        ours = Network(shape, encoder.width).state_dict()
    weights, state = _choose(content, wanted)
    tensors = translate(state, shape, ours, thirds=options.use_new_attention_order)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    parameters = sum(tensor.numel() for tensor in tensors.values())
    origin = {"format": FORMAT, "sha256": digest, "weights": weights}
    # the authors' script transposes what the network makes before it saves pictures
    about = {"origin": origin, "transposed": True}
    write_weights(destination, tensors, shape, encoder.version, about)
    return Imported(
        format=FORMAT,
        sha256=digest,
        weights=weights,
        size_px=shape.size_px,
        encoder=encoder.version,
        parameters=parameters,
        architecture=asdict(shape),
    )


def _choose(content: dict[str, Any], wanted: Weights) -> tuple[Weights, dict[str, Any]]:
    """The moving average where one is wanted and there; the flag says whether it had begun."""
    average = content.get("ema_state_dict")
    if wanted == "ema" and average and content.get("_ema_state_dict_ready", True):
        return "ema", _mapping(average)
    return "raw", _mapping(content.get("state_dict"))


def _mapping(state: object) -> dict[str, Any]:
    if not isinstance(state, dict) or not state:
        raise KeysDiffer("It holds no weights (state_dict)")
    return state
