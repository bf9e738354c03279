"""The real worker of queue `generation`, with the real engine on one thread of the CPU.

Its stretches end after `STRETCH` steps rather than minutes, and two seeds bring trouble.
"""

import os

import torch

from services.datasets.main import compose as compose_datasets
from services.generation.diffusion import training
from services.generation.diffusion.engine import DiffusionEngine
from services.generation.ports.engine import Stretch, TrainTask
from services.generation.service import RENDER, TRAIN, Rendering, Training
from services.kit.adapters import Adapters
from services.kit.jobs.runner import Handler
from services.kit.worker import slice_worker

STRETCH = "FAULTS_STRETCH"
NAN_SEED, MEMORY_SEED, SPOILT_STEP = 1_000_001, 1_000_002, 30


class ShortStretches(DiffusionEngine):
    """Ends a stretch after a number of steps, so that a checkpoint lies where a test wants it."""

    def train(self, task: TrainTask, *, seconds, should_stop, progress, show) -> Stretch:
        taken = 0

        def told(step: int, loss: float) -> None:
            nonlocal taken
            taken += 1
            if task.seed == MEMORY_SEED and step == SPOILT_STEP:
                raise torch.OutOfMemoryError("CUDA out of memory")
            progress(step, loss)

        def stop() -> bool:
            return should_stop() or taken >= int(os.environ[STRETCH])

        with _learning_rate(task.seed):
            return super().train(task, seconds=seconds, should_stop=stop, progress=told, show=show)


class _learning_rate:  # noqa: N801 - a context, used like a function
    """For `NAN_SEED` the learning rate is infinite at one step: what follows is NaN."""

    def __init__(self, seed: int) -> None:
        self._spoils = seed == NAN_SEED
        self._own = training.learning_rate

    def __enter__(self) -> None:
        if self._spoils:
            training.learning_rate = lambda recipe, step, steps: (
                float("inf") if step == SPOILT_STEP else self._own(recipe, step, steps)
            )

    def __exit__(self, *_: object) -> None:
        training.learning_rate = self._own


def handlers(adapters: Adapters) -> dict[str, Handler]:
    datasets = compose_datasets(adapters).provider
    engine = ShortStretches("cpu", threads=1)
    parts = (adapters.db, adapters.store, datasets, engine, adapters.settings.scratch)
    return {TRAIN: Training(*parts), RENDER: Rendering(*parts)}


app = slice_worker("generation", "generation", handlers)
