"""The sampling loop with nothing around it, in a process set up like a worker's.

`python -m benchmarks.bare_sampling 1024 16` prints the images per second of `tiny-32`, and the
milliseconds that the processor took for an image.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from api_schemas.generation import Condition, Sampler
from services.generation.diffusion.engine import DiffusionEngine
from services.generation.ports.engine import RenderTask, TrainTask

BATCH = 64


def main(images: int, steps: int) -> tuple[float, float]:
    """The weights are of one training step, which sampling cannot notice."""
    engine = DiffusionEngine("cpu")
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        state.mkdir()
        noise = Path(folder) / "images.npy"
        np.save(noise, np.random.default_rng(0).integers(0, 256, (64, 32, 32), np.uint8))
        task = TrainTask("tiny-32", 1, 0, noise, [Condition()] * 64, state)
        engine.train(task, seconds=60, should_stop=lambda: False, progress=lambda *_: None)

        def render(first: int, last: int) -> None:
            seeds = range(first, last)
            engine.render(
                RenderTask(
                    weights=state / "weights.safetensors",
                    digest="bare",
                    conditions=[Condition()] * len(seeds),
                    seeds=seeds,
                    sampler=Sampler(steps=steps),
                    batch=BATCH,
                )
            )

        render(0, BATCH)  # warm
        began, used = time.perf_counter(), time.process_time()
        for first in range(0, images, BATCH):
            render(first, min(first + BATCH, images))
        used = time.process_time() - used
        return images / (time.perf_counter() - began), 1000 * used / images


if __name__ == "__main__":
    print(*main(int(sys.argv[1]), int(sys.argv[2])))
