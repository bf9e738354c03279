"""One stretch of a run, from its last checkpoint to its next or to its end.

Knows folders and a device; neither jobs nor how many processes do the same.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from services.training.classifier import checkpoints
from services.training.classifier.loop import Batch, Run
from services.training.classifier.network import shape_record
from services.training.classifier.peers import Alone, Peers
from services.training.classifier.presets import PRESETS, Preset
from services.training.ports.engine import EngineError, Outcome, OutOfDeviceMemoryError, RunSpec

FORMAT = "synthorax-classifier/1"


@dataclass(frozen=True)
class Kernels:
    """How the device computes what it is asked: it changes speed and last bits.

    `channels_last` keeps channels innermost in memory, which tensor cores want; `compile` trains
    with a compiled network.
    """

    channels_last: bool = False
    compile: bool = False


def train(
    spec: RunSpec,
    folder: Path,
    device: torch.device,
    kernels: Kernels,
    *,
    resume: Path | None,
    pause: Callable[[], bool],
    progress: Callable[[int], None],
    peers: Peers | None = None,
    presets: Mapping[str, Preset] = PRESETS,
) -> Outcome:
    """As `Engine.train` says. Of several peers number 0 decides when to pause, and writes."""
    peers = peers or Alone()
    run = _begin(spec, device, kernels, peers, presets)
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
            if peers.agree(pause()):
                place = folder / f"step-{run.tally.step:08d}"
                if peers.rank == 0:
                    checkpoints.write(place, *run.state())
                return _outcome(run, checkpoint=place)
    place = folder / "classifier"
    if peers.rank == 0:
        checkpoints.write(place, run.best, _record(run, kernels))
    return _outcome(run, classifier=place)


def _begin(
    spec: RunSpec,
    device: torch.device,
    kernels: Kernels,
    peers: Peers,
    presets: Mapping[str, Preset],
) -> Run:
    preset = presets.get(spec.preset)
    if preset is None:
        msg = f"unknown preset: {spec.preset}"
        raise EngineError(msg)
    run = Run(spec, preset, device, channels_last=kernels.channels_last, peers=peers)
    if kernels.compile:
        run.network.convnext.convnext.compile()
    return run


def _record(run: Run, kernels: Kernels) -> dict[str, Any]:
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
        "keep": spec.keep,
        "keep_from": spec.keep_from,
        "monitor": spec.monitor,
        "early_stopping": spec.early_stopping,
        "best_step": run.tally.best_step,
        "validation_auroc": run.tally.best_auroc,
        "curve": [[p.step, p.loss, p.auroc, p.validation_loss] for p in run.tally.curve],
        "environment": {
            "device": str(run.device),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "channels_last": kernels.channels_last,
            "compiled": kernels.compile,
            "processes": run.peers.world,
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
