"""Trainings and weights on disk: safetensors and JSON, never a pickle.

A checkpoint is a folder that resumes a training exactly. Weights are one file to sample from,
with the configuration of their network in the header.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from services.generation.diffusion.encoders import ENCODERS, Encoder
from services.generation.diffusion.network import Network
from services.generation.diffusion.presets import PRESETS, Architecture
from services.generation.diffusion.schedule import PUBLISHED, SCHEDULES, Schedule
from services.generation.diffusion.training import Training

STATE = "state.json"
WEIGHTS = "weights.safetensors"
PARTS = ("network", "average", "optimiser")
CONFIG = "synthorax"
"""The one key of a weights file's header: with several, their order would not be reproducible."""

Tensors = Mapping[str, torch.Tensor]


class CheckpointDamaged(Exception):
    """A checkpoint or weights file is not what was written, or of another training."""


def save_training(training: Training, folder: Path) -> None:
    """Write a checkpoint; its JSON, which holds the digests of the rest, comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Tensors] = {
        "network": training.network.state_dict(),
        "average": training.average.state_dict(),
        "optimiser": _optimiser_tensors(training.optimiser),
    }
    for part, tensors in contents.items():
        _save(tensors, _file(folder, part))
    digests = {part: _digest(_file(folder, part)) for part in PARTS}
    state = {"step": training.step, "files": digests, **_identity(training)}
    (folder / STATE).write_text(json.dumps(state, indent=1))


def resume_training(training: Training, folder: Path) -> None:
    """Bring a training that has just begun to where the checkpoint in `folder` stands.

    Raises `CheckpointDamaged` if a file is missing or changed, or of another training.
    """
    try:
        state = json.loads((folder / STATE).read_text())
        told = {k: v for k, v in state.items() if k not in {"step", "files"}}
        _expect(told == _identity(training), "another's")
        for part in PARTS:
            _expect(_digest(_file(folder, part)) == state["files"][part], f"{part} has changed")
        tensors = {part: load_file(_file(folder, part)) for part in PARTS}
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        msg = "the checkpoint cannot be read"
        raise CheckpointDamaged(msg) from error
    training.network.load_state_dict(tensors["network"])
    training.average.load_state_dict(tensors["average"])
    _restore_optimiser(training.optimiser, tensors["optimiser"])
    training.step = state["step"]


def save_weights(training: Training, path: Path) -> None:
    """Write the moving average, the weights to sample from. The same training: the same bytes."""
    preset = PRESETS[training.preset]
    about = {**_identity(training), "step": training.step}
    write_weights(path, training.average.state_dict(), preset.architecture, preset.encoder, about)


def write_weights(
    path: Path, tensors: Tensors, shape: Architecture, encoder: str, about: Mapping[str, Any]
) -> None:
    """Write a file that `load_weights` reads; `about` goes into its header."""
    config = {
        **about,
        "encoder": encoder,
        "architecture": asdict(shape),
        "schedule": PUBLISHED,
    }
    _save(tensors, path, {CONFIG: json.dumps(config, sort_keys=True)})


@dataclass(frozen=True)
class Model:
    """What it takes to sample: a network, the encoder of its conditions, and its schedule.

    A `transposed` network makes images with rows and columns exchanged.
    """

    network: Network
    encoder: Encoder
    schedule: Schedule
    size_px: int
    transposed: bool = False

    def to(self, device: torch.device, precision: torch.dtype) -> "Model":
        """On a device, its U-Net (all that costs time) in a precision. Changes this one too."""
        nn.Module.to(self.network.to(device).unet, precision)  # diffusers' own warns of nothing
        return self


def model_of(training: Training) -> Model:
    """The moving average of a training in progress, to look at what it has learnt so far."""
    preset = PRESETS[training.preset]
    encoder, schedule = ENCODERS[preset.encoder], SCHEDULES[PUBLISHED]()
    return Model(training.average, encoder, schedule, preset.architecture.size_px)


def load_weights(path: Path) -> Model:
    """The model of a weights file, on the CPU; the file alone says what it is.

    Raises `CheckpointDamaged` for anything that is not a weights file of ours.
    """
    try:
        with safe_open(path, "pt") as file:
            config = json.loads(file.metadata()[CONFIG])
        architecture = Architecture.from_json(config["architecture"])
        encoder = ENCODERS[config["encoder"]]
        schedule = SCHEDULES[config["schedule"]]()
        network = Network(architecture, encoder.width)
        network.load_state_dict(load_file(path))
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        msg = f"{path.name} holds no weights of ours"
        raise CheckpointDamaged(msg) from error
    return Model(
        network.requires_grad_(requires_grad=False).eval(),
        encoder,
        schedule,
        architecture.size_px,
        transposed=config.get("transposed", False),
    )


def _save(tensors: Tensors, path: Path, header: dict[str, str] | None = None) -> None:
    """Write a file of tensors. Raises `OSError` when the system refuses, as on a full disk."""
    try:
        save_file({name: t.contiguous() for name, t in tensors.items()}, path, header)
    except SafetensorError as error:
        refused = re.search(r"os error (\d+)", str(error))  # all that the library tells
        if refused is None:
            raise
        raise OSError(int(refused[1]), os.strerror(int(refused[1]))) from error


def _identity(training: Training) -> dict[str, Any]:
    """What tells one training from another; a recipe that is its preset's needs no words."""
    own = {"changes": dict(training.changes)} if training.changes else {}
    return {"preset": training.preset, "seed": training.seed, "steps": training.steps, **own}


def _file(folder: Path, part: str) -> Path:
    return folder / f"{part}.safetensors"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _expect(fact: bool, otherwise: str) -> None:
    if not fact:
        raise ValueError(otherwise)


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """An optimiser's state as flat tensors, `{parameter}.{entry}`; empty before the first step."""
    state: dict[int, dict[str, torch.Tensor]] = optimiser.state_dict()["state"]
    return {f"{i}.{name}": t for i, entries in state.items() for name, t in entries.items()}


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Tensors) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensor
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
