"""The engine: trains a run in stretches, and scores images with a stored classifier."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from services.training.classifier import ranks, stretches
from services.training.classifier.loop import logits
from services.training.classifier.presets import PRESETS, Preset
from services.training.classifier.stored import restored
from services.training.classifier.stretches import Kernels
from services.training.ports.engine import Outcome, Pixels, RunSpec


class ClassifierEngine:
    """The `Engine` on torch; `threads` 0 leaves their number to torch.

    With several `processes` a run is trained by so many beside this one, each on a GPU of its own;
    it then takes the presets as they stand.
    """

    def __init__(
        self,
        device: str,
        threads: int,
        *,
        kernels: Kernels | None = None,
        processes: int = 1,
        presets: Mapping[str, Preset] = PRESETS,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._device = torch.device(device)
        self._kernels = kernels or Kernels()
        self._processes = processes
        self._presets = presets

    def train(
        self,
        spec: RunSpec,
        folder: Path,
        *,
        resume: Path | None,
        pause: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> Outcome:
        if self._processes > 1:
            return ranks.train(
                spec,
                folder,
                self._kernels,
                self._processes,
                resume=resume,
                pause=pause,
                progress=progress,
            )
        return stretches.train(
            spec,
            folder,
            self._device,
            self._kernels,
            resume=resume,
            pause=pause,
            progress=progress,
            presets=self._presets,
        )

    def score(
        self, classifier: Path, images: Pixels, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        network, record = restored(classifier)
        network.to(self._device)
        precision = record.get("precision", "float32")
        found = logits(network, lambda at: images[rows[at]], len(rows), self._device, precision)
        return torch.sigmoid(found).numpy()
