"""The engine: trains a run in stretches, and scores images with a stored classifier."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from services.training.classifier import checkpoints
from services.training.classifier.loop import Batch, Run, logits
from services.training.classifier.network import Network, Shape, shape_record
from services.training.classifier.presets import PRESETS, Preset
from services.training.ports.engine import (
    EngineError,
    Outcome,
    OutOfDeviceMemoryError,
    Pixels,
    RunSpec,
)

FORMAT = "synthorax-classifier/1"


class ClassifierEngine:
    """The `Engine` on torch, on one device; `threads` 0 leaves their number to torch.

    `channels_last` keeps channels innermost in memory, which tensor cores want; `compile` trains
    with a compiled network.
    """

    def __init__(
        self,
        device: str,
        threads: int,
        *,
        channels_last: bool = False,
        compile: bool = False,  # noqa: A002 - torch's word for it
        presets: Mapping[str, Preset] = PRESETS,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._device = torch.device(device)
        self._threads = torch.get_num_threads()
        self._channels_last = channels_last
        self._compile = compile
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
        run = self._run(spec)
        if resume is None:
            run.begin()
        else:
            run.restore(*checkpoints.read(resume))
        with closing(run.batches()) as batches:
            for batch in batches:
                _advance(run, batch)
                progress(run.tally.step)
                if run.finished:
                    break
                if pause():
                    tensors, record = run.state()
                    place = folder / f"step-{run.tally.step:08d}"
                    return _outcome(run, checkpoint=checkpoints.write(place, tensors, record))
        stored = checkpoints.write(folder / "classifier", run.best, self._record(run))
        return _outcome(run, classifier=stored)

    def _run(self, spec: RunSpec) -> Run:
        preset = self._presets.get(spec.preset)
        if preset is None:
            msg = f"unknown preset: {spec.preset}"
            raise EngineError(msg)
        run = Run(spec, preset, self._device, channels_last=self._channels_last)
        if self._compile:
            run.network.convnext.convnext.compile()
        return run

    def score(
        self, classifier: Path, images: Pixels, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        tensors, record = checkpoints.read(classifier)
        shape = Shape(**{k: _tuple(v) for k, v in record["shape"].items()})
        network = Network(shape, len(record["labels"]))
        network.load_state_dict(tensors)
        network.to(self._device).eval()
        precision = record.get("precision", "float32")
        found = logits(network, lambda at: images[rows[at]], len(rows), self._device, precision)
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
            "recipe": asdict(run.recipe),
            "precision": spec.precision,
            "positive_weights": spec.positive_weights,
            "pretrained_sha256": spec.pretrained and spec.pretrained.sha256,
            "monitor": spec.monitor,
            "early_stopping": spec.early_stopping,
            "best_step": run.tally.best_step,
            "validation_auroc": run.tally.best_auroc,
            "curve": [[p.step, p.loss, p.auroc, p.validation_loss] for p in run.tally.curve],
            "environment": {
                "device": str(self._device),
                "torch": torch.__version__,
                "threads": self._threads,
                "channels_last": self._channels_last,
                "compiled": self._compile,
            },
        }


def _advance(run: Run, batch: Batch) -> None:
    try:
        run.advance(batch)
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
