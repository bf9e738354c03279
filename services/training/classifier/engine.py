"""The engine: trains a run in stretches, and scores images with a stored classifier."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.training.classifier import checkpoints
from services.training.classifier.augmentation import Augmentation
from services.training.classifier.loop import Run, logits
from services.training.classifier.network import Network, Shape, shape_record
from services.training.ports.engine import (
    Outcome,
    OutOfDeviceMemoryError,
    Pixels,
    RunSpec,
)

FORMAT = "synthorax-classifier/1"


class ClassifierEngine:
    """The `Engine` on torch, on one device; `threads` 0 leaves their number to torch."""

    def __init__(self, device: str, threads: int) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._device = torch.device(device)
        self._threads = torch.get_num_threads()

    def train(
        self,
        spec: RunSpec,
        folder: Path,
        *,
        resume: Path | None,
        pause: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> Outcome:
        run = Run(spec, self._device, Augmentation())
        if resume is not None:
            run.restore(*checkpoints.read(resume))
        while not run.finished:
            _advance(run)
            progress(run.tally.step)
            if not run.finished and pause():
                tensors, record = run.state()
                name = f"step-{run.tally.step:08d}"
                return _outcome(run, checkpoint=checkpoints.write(folder / name, tensors, record))
        stored = checkpoints.write(folder / "classifier", run.best, self._record(run))
        return _outcome(run, classifier=stored)

    def score(
        self, classifier: Path, images: Pixels, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        tensors, record = checkpoints.read(classifier)
        shape = Shape(**{k: _tuple(v) for k, v in record["shape"].items()})
        network = Network(shape, len(record["labels"]))
        network.load_state_dict(tensors)
        network.to(self._device).eval()
        found = logits(network, lambda at: images[rows[at]], len(rows), self._device)
        return torch.sigmoid(found).numpy()

    def _record(self, run: Run) -> dict[str, Any]:
        """What the stored weights say of themselves."""
        spec = run.spec
        return {
            "format": FORMAT,
            "preset": spec.preset,
            "shape": shape_record(run.shape),
            "labels": list(spec.labels),
            "size_px": spec.size_px,
            "pixels": "grayscale bytes / 127.5 - 1",
            "seed": spec.seed,
            "steps": spec.steps,
            "batch_size": spec.batch_size,
            "learning_rate": spec.learning_rate,
            "weight_decay": spec.weight_decay,
            "best_step": run.tally.best_step,
            "validation_auroc": run.tally.best_auroc,
            "curve": [[p.step, p.loss, p.auroc, p.validation_loss] for p in run.tally.curve],
            "environment": {
                "device": str(self._device),
                "torch": torch.__version__,
                "threads": self._threads,
            },
        }


def _advance(run: Run) -> None:
    try:
        run.advance()
    except torch.OutOfMemoryError as error:
        msg = f"a batch of {run.spec.batch_size} images does not fit the device"
        raise OutOfDeviceMemoryError(msg) from error


def _outcome(run: Run, checkpoint: Path | None = None, classifier: Path | None = None) -> Outcome:
    tally = run.tally
    return Outcome(
        step=tally.step,
        best_step=tally.best_step,
        best_auroc=tally.best_auroc,
        curve=tuple(tally.curve),
        checkpoint=checkpoint,
        classifier=classifier,
    )


def _tuple(value: object) -> Any:
    return tuple(value) if isinstance(value, list) else value
