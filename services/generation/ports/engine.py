"""The engine that generation needs: diffusion, as its workers see it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from api_schemas.generation import Condition, Environment, Sampler


@dataclass(frozen=True)
class PresetFacts:
    """What a request must know of a preset without loading torch."""

    size_px: int
    steps: int
    encoder: str = "masked/1"
    learns_variance: bool = False


PRESET_FACTS: Mapping[str, PresetFacts] = MappingProxyType(
    {
        "tiny-32": PresetFacts(32, 1000),
        "small-64": PresetFacts(64, 2000),
        # 40 million images in batches of 144, as published
        "paper-256": PresetFacts(256, 277_778, "paper22", learns_variance=True),
    }
)


class LossNotFinite(Exception):
    """The training loss became NaN or infinite; the last good checkpoint stands."""

    def __init__(self, step: int) -> None:
        """`step` steps were good."""
        super().__init__(f"step {step}")
        self.step = step


class CheckpointRefused(Exception):
    """A file cannot be imported; the message says why, for people. Nothing was written."""


class CheckpointUnreadable(CheckpointRefused):
    """It is not a checkpoint, or damaged."""


class CheckpointUnsafe(CheckpointRefused):
    """It would run code or fill the memory if it were read carelessly."""


class NetworkUnsupported(CheckpointRefused):
    """It holds a network of another kind."""


class KeysDiffer(CheckpointRefused):
    """Its weights are not those of the network that it says it holds."""


class WeightsNotFinite(CheckpointRefused):
    """A weight is NaN or infinite."""


class OutOfDeviceMemory(MemoryError):
    """The device's memory does not hold what was asked; the engine can be asked for less."""


@dataclass(frozen=True)
class TrainTask:
    """One training. `images` is a uint8 .npy file (N, size, size), `conditions` its N rows.

    `folder` holds the state between stretches: it is resumed from when it is there. After the
    last step it also holds `weights.safetensors` (EMA weights, configuration in the metadata).
    `changes` are what the recipe of the preset has otherwise, by the names of `TrainingSettings`.
    """

    preset: str
    steps: int
    seed: int
    images: Path
    conditions: Sequence[Condition]
    folder: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    previews: "Previews | None" = None


@dataclass(frozen=True)
class Previews:
    """Images to make every so many steps, always of the same conditions and seeds."""

    every: int
    conditions: Sequence[Condition]
    seeds: Sequence[int]


@dataclass(frozen=True)
class Look:
    """What a training shows of itself at a step.

    `losses` are the points of the curve since the last look, `images` (N, size, size) the preview
    that is due, if one is.
    """

    step: int
    losses: list[tuple[int, float]]
    images: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Stretch:
    """How far a stretch of training came; `losses` are (step, mean loss since the last)."""

    step: int
    finished: bool
    losses: list[tuple[int, float]]


@dataclass(frozen=True)
class RenderTask:
    """Images to make; `digest` (SHA-256 of the weights file) keeps a warm model apart."""

    weights: Path
    digest: str
    conditions: Sequence[Condition]
    seeds: Sequence[int]
    sampler: Sampler
    batch: int


Weights = Literal["ema", "raw"]


@dataclass(frozen=True)
class Imported:
    """What an imported checkpoint turned out to be; `sha256` is the digest of the file."""

    format: str
    sha256: str
    weights: Weights
    size_px: int
    encoder: str
    parameters: int
    architecture: Mapping[str, Any]


class Engine(Protocol):
    """Diffusion. Knows nothing of jobs, rows and objects."""

    @property
    def environment(self) -> Environment: ...

    def train(
        self,
        task: TrainTask,
        *,
        seconds: float,
        should_stop: Callable[[], bool],
        progress: Callable[[int, float], None],
        show: Callable[[Look], None],
    ) -> Stretch:
        """Train until the steps are done, `seconds` are over or `should_stop`; save the state.

        `progress` gets the step and the latest loss, `show` now and then a look. Raises
        `LossNotFinite` and `OutOfDeviceMemory`.
        """
        ...

    def render(self, task: RenderTask) -> NDArray[np.uint8]:
        """Images (N, size, size), each from its own condition and seed alone; only with guidance in
        compatibility mode from its neighbours too.

        Raises `OutOfDeviceMemory`.
        """
        ...

    def import_checkpoint(self, source: Path, destination: Path, wanted: Weights) -> Imported:
        """Turn a foreign checkpoint into a weights file; raw weights where there is no average.

        Raises `CheckpointRefused`, by its subclasses.
        """
        ...
