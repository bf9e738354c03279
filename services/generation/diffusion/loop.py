"""One stretch of a training: from its last checkpoint to its next.

Knows files, time and a device; neither jobs nor where its reports go.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from api_schemas.generation import Sampler
from services.generation.diffusion.checkpoints import (
    STATE,
    WEIGHTS,
    model_of,
    resume_training,
    save_training,
    save_weights,
)
from services.generation.diffusion.sampling import sample
from services.generation.diffusion.schedule import PUBLISHED, SCHEDULES
from services.generation.diffusion.training import Alone, Examples, Peers, Training
from services.generation.ports.engine import Look, Previews, Stretch, TrainTask

CURVE_STEPS = 25
"""A point of the loss curve is the mean over this many steps."""

PREVIEW_BATCH = 8


def train(
    task: TrainTask,
    device: torch.device,
    *,
    seconds: float,
    should_stop: Callable[[], bool],
    progress: Callable[[int, float], None],
    show: Callable[[Look], None],
    peers: Peers | None = None,
) -> Stretch:
    """Train until the steps are done, `seconds` are over or `should_stop`; save the state.

    Of several peers number 0 decides, shows and saves. The next batch is drawn while the device
    is at work on this one.
    """
    deadline, peers = time.monotonic() + seconds, peers or Alone()
    training = Training.begin(
        task.preset, task.seed, task.steps, device, changes=task.changes, peers=peers
    )
    if (task.folder / STATE).exists():
        resume_training(training, task.folder)
    examples, schedule, curve = Examples.of(task), SCHEDULES[PUBLISHED](), LossCurve()
    shown = 0
    with ThreadPoolExecutor(1) as drawing:
        ahead = drawing.submit(training.draw, examples, schedule, training.step)
        while training.step < task.steps and not peers.agree(
            time.monotonic() >= deadline or should_stop()
        ):
            batch = ahead.result()
            ahead = drawing.submit(training.draw, examples, schedule, training.step + 1)
            loss = training.learn(batch, schedule)
            curve.add(training.step, loss)
            if peers.rank == 0:
                progress(training.step, loss)
                images = _preview(training, task.previews, device)
                if images is not None or len(curve.points) > shown:
                    show(Look(training.step, curve.points[shown:], images))
                    shown = len(curve.points)
    finished = training.step == task.steps
    if peers.rank == 0:
        save_training(training, task.folder)
        if finished:
            save_weights(training, task.folder / WEIGHTS)
    return Stretch(training.step, finished, curve.close())


def _preview(
    training: Training, previews: Previews | None, device: torch.device
) -> NDArray[np.uint8] | None:
    """The images that are due at this step, from the moving average; changes nothing of it."""
    if previews is None or training.step % previews.every:
        return None
    model, B = model_of(training), PREVIEW_BATCH
    conditions, seeds = previews.conditions, previews.seeds
    parts = [
        sample(model, device, conditions[i : i + B], seeds[i : i + B], Sampler(), B)
        for i in range(0, len(seeds), B)
    ]
    return np.concatenate(parts)


class LossCurve:
    """(step, mean loss since the last point), a point every `CURVE_STEPS` steps."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []
        self._since: list[float] = []
        self._step = 0

    def add(self, step: int, loss: float) -> None:
        self._step = step
        self._since.append(loss)
        if step % CURVE_STEPS == 0:
            self.close()

    def close(self) -> list[tuple[int, float]]:
        """All points, the last over what is left."""
        if self._since:
            self.points.append((self._step, float(np.mean(self._since))))
            self._since = []
        return self.points
