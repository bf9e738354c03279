"""The engine that generation needs: diffusion, as its workers see it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from api_schemas.generation import Condition, Environment, Sampler


@dataclass(frozen=True)
class PresetFacts:
    """What a request must know of a preset without loading torch."""

    size_px: int
    steps: int


PRESET_FACTS: Mapping[str, PresetFacts] = MappingProxyType(
    {"tiny-32": PresetFacts(32, 1000), "small-64": PresetFacts(64, 2000)}
)


class LossNotFinite(Exception):
    """The training loss became NaN or infinite; the last good checkpoint stands."""


class OutOfDeviceMemory(MemoryError):
    """The device's memory does not hold what was asked; the engine can be asked for less."""


@dataclass(frozen=True)
class TrainTask:
    """One training. `images` is a uint8 .npy file (N, size, size), `conditions` its N rows.

    `folder` holds the state between stretches: it is resumed from when it is there. After the
    last step it also holds `weights.safetensors` (EMA weights, configuration in the metadata).
    """

    preset: str
    steps: int
    seed: int
    images: Path
    conditions: Sequence[Condition]
    folder: Path


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
    ) -> Stretch:
        """Train until the steps are done, `seconds` are over or `should_stop`; save the state.

        `progress` gets the step and the latest loss. Raises `LossNotFinite` and
        `OutOfDeviceMemory`.
        """
        ...

    def render(self, task: RenderTask) -> NDArray[np.uint8]:
        """Images (N, size, size), each from its own condition and seed alone.

        Raises `OutOfDeviceMemory`.
        """
        ...
