"""What a training run is, for the engine that carries it out and the service that asks for it.

Knows arrays and folders; nothing of experiments, manifests, jobs or the web.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
"""A target that the label policy leaves out of the loss."""

Pixels = NDArray[np.uint8]
"""Grayscale images, (N, H, W), usually a read-only memory map of a packed source."""


@dataclass(frozen=True)
class Part:
    """Images of one packed source, each as often as its row is listed, with their targets."""

    images: Pixels  # (N, H, W)
    rows: NDArray[np.int64]  # (n,) into images
    targets: NDArray[np.int8]  # (n, L): 1, 0 or UNKNOWN


@dataclass(frozen=True)
class StageSpec:
    """Some steps of training on the union of `parts`."""

    parts: tuple[Part, ...]
    steps: int


@dataclass(frozen=True)
class Weights:
    """Weights to begin with; `fetch` gives their safetensors file, which `sha256` must fit."""

    sha256: str
    fetch: Callable[[], Path]


@dataclass(frozen=True)
class RunSpec:
    """One arm with one seed, completely: two equal specs train the same classifier on a CPU.

    `positive_weights` (one a label) multiply the loss of positives. `keep` says which weights
    become the classifier: those after the last step, or the best by what `monitor` says after the
    share `keep_from` of the last stage's steps, where patience is counted too.
    """

    labels: tuple[str, ...]
    size_px: int
    seed: int
    stages: tuple[StageSpec, ...]
    validation: Part
    preset: str
    batch_size: int
    learning_rate: float
    weight_decay: float
    validate_every: int
    early_stopping: int | None = None
    keep: Literal["last", "best"] = "best"
    keep_from: float = 0.0
    monitor: Literal["auroc", "loss"] = "auroc"
    precision: Literal["float32", "bfloat16"] = "float32"
    positive_weights: tuple[float, ...] | None = None
    pretrained: Weights | None = None

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    @property
    def kept_after(self) -> float:
        """The steps before whose end no weights are kept."""
        return self.steps - (1 - self.keep_from) * self.stages[-1].steps


@dataclass(frozen=True)
class CurvePoint:
    """One validation: the mean training loss since the last one, and the macro AUROC.

    `images_per_s` is how fast training went since then, validations aside; `memory_mib` the most
    that a GPU has held, null on a CPU. Two equal runs may differ in both.
    """

    step: int
    loss: float
    auroc: float | None
    validation_loss: float | None = None
    images_per_s: float | None = field(default=None, compare=False)
    memory_mib: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Outcome:
    """Where a stretch of training ended.

    Paused: `checkpoint` is the folder to resume from. Finished: `classifier` is the folder with
    the weights that the run keeps, and nothing is left to resume. `best_step` is the step whose
    weights these are, `best_auroc` what its validation gave.
    """

    step: int
    best_step: int | None
    best_auroc: float | None
    curve: tuple[CurvePoint, ...]
    checkpoint: Path | None = None
    classifier: Path | None = None

    @property
    def finished(self) -> bool:
        return self.classifier is not None


class EngineError(Exception):
    """Something about a run that trying again will not mend."""


class NotFiniteError(EngineError):
    """The loss became NaN or infinite."""


class OutOfDeviceMemoryError(EngineError):
    """The batch does not fit the device; batch sizes are never changed silently."""


class ImageMismatchError(EngineError):
    """An image that does not decode, or is not of its source's size."""


class CheckpointMismatchError(EngineError):
    """A checkpoint that is damaged, or is of another run."""


class WeightsMismatchError(EngineError):
    """Weights to begin with that are damaged, or are not of the network's shape."""


class Engine(Protocol):
    def train(
        self,
        spec: RunSpec,
        folder: Path,
        *,
        resume: Path | None,
        pause: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> Outcome:
        """Train until done or until `pause()`; write what comes of it below `folder`.

        Takes at least one step, and tells `progress` after every one how many are done. Raises
        `NotFiniteError`, `OutOfDeviceMemoryError`, and before any step is taken
        `CheckpointMismatchError` and `WeightsMismatchError`.
        """
        ...

    def score(
        self, classifier: Path, images: Pixels, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Probabilities (n, L) of `images[rows]` under the classifier stored in a folder."""
        ...


class PackedSources(Protocol):
    """Packed pixels by name, made on first use and kept in a bounded folder."""

    def open(self, name: str, count: int, size_px: int, read: Callable[[int], bytes]) -> Pixels:
        """The (count, size_px, size_px) pixels of `name`; `read(i)` gives the PNG of image i."""
        ...

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Remove every source whose name is not wanted; open maps stay readable."""
        ...
