"""The engine: what a worker may ask of the science, in files and arrays."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np
import torch
from numpy.typing import NDArray

from api_schemas.generation import Condition, Environment
from api_schemas.generation import Sampler as SamplerSettings
from services.generation.diffusion.checkpoints import (
    STATE,
    WEIGHTS,
    Model,
    load_weights,
    resume_training,
    save_training,
    save_weights,
)
from services.generation.diffusion.denoising import Denoiser, Guidance
from services.generation.diffusion.encoders import ENCODERS
from services.generation.diffusion.presets import PRESETS
from services.generation.diffusion.samplers import SAMPLERS
from services.generation.diffusion.schedule import PUBLISHED, SCHEDULES
from services.generation.diffusion.training import Examples, Training
from services.generation.ports.engine import OutOfDeviceMemory, RenderTask, Stretch, TrainTask

CURVE_STEPS = 25
"""A point of the loss curve is the mean over this many steps."""

NOBODY = Condition()
"""The condition of the images that pad a batch; they are thrown away."""


class DiffusionEngine:
    """Trains and samples on one device, as `services.generation.ports.engine.Engine` wants it.

    Keeps the model it sampled from last. Not for use by two threads at once.
    """

    def __init__(self, device: str = "auto", threads: int | None = None) -> None:
        """`auto` takes a GPU where there is one; `threads` limits the CPU (None: all cores)."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if threads is not None:
            torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic = True
        self._device = torch.device(device)
        self._warm: tuple[str, Model] | None = None

    @property
    def environment(self) -> Environment:
        on_gpu = self._device.type == "cuda"
        return Environment(
            device=torch.cuda.get_device_name(self._device) if on_gpu else "cpu",
            torch=torch.__version__,
            diffusers=version("diffusers"),
            numpy=np.__version__,
            threads=torch.get_num_threads(),
        )

    def train(
        self,
        task: TrainTask,
        *,
        seconds: float,
        should_stop: Callable[[], bool],
        progress: Callable[[int, float], None],
    ) -> Stretch:
        """Train until the steps are done, `seconds` are over or `should_stop`; save the state."""
        with self._memory():
            return self._train(task, time.monotonic() + seconds, should_stop, progress)

    def _train(
        self,
        task: TrainTask,
        deadline: float,
        should_stop: Callable[[], bool],
        progress: Callable[[int, float], None],
    ) -> Stretch:
        training = Training.begin(task.preset, task.seed, task.steps, self._device)
        if (task.folder / STATE).exists():
            resume_training(training, task.folder)
        examples, schedule, curve = _examples(task), SCHEDULES[PUBLISHED](), LossCurve()
        while training.step < task.steps and time.monotonic() < deadline and not should_stop():
            loss = training.advance(examples, schedule)
            curve.add(training.step, loss)
            progress(training.step, loss)
        save_training(training, task.folder)
        finished = training.step == task.steps
        if finished:
            save_weights(training, task.folder / WEIGHTS)
        return Stretch(training.step, finished, curve.points())

    def render(self, task: RenderTask) -> NDArray[np.uint8]:
        """Images (N, size, size), each from its own condition and seed alone."""
        model = self._model(task)
        count, B = len(task.seeds), task.batch
        padding = -count % B
        conditions = [*task.conditions, *[NOBODY] * padding]
        seeds = [*task.seeds, *[0] * padding]
        with self._memory():
            batches = [
                self._sample(model, conditions[i : i + B], seeds[i : i + B], task.sampler)
                for i in range(0, len(seeds), B)
            ]
        return np.concatenate(batches)[:count]

    @contextmanager
    def _memory(self) -> Generator[None]:
        """When the device's memory is full, say so, and leave none of it taken."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            self._warm = None
            torch.cuda.empty_cache()
            raise OutOfDeviceMemory(str(self._device)) from error

    def _model(self, task: RenderTask) -> Model:
        if self._warm is None or self._warm[0] != task.digest:
            self._warm = task.digest, load_weights(task.weights).to(self._device)
        return self._warm[1]

    @torch.inference_mode()
    def _sample(
        self,
        model: Model,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        settings: SamplerSettings,
    ) -> NDArray[np.uint8]:
        c = torch.from_numpy(model.encoder.encode(conditions)).to(self._device)
        x = torch.from_numpy(noise(seeds, model.size_px)).to(self._device)
        guidance = Guidance(settings.guidance, settings.interval, settings.rescale)
        denoiser = Denoiser(model.network, model.schedule, c, guidance)
        x_0 = SAMPLERS[settings.name](denoiser, x, model.schedule, settings.steps)
        return to_pixels(x_0)


def noise(seeds: Sequence[int], size_px: int) -> NDArray[np.float32]:
    """The starting noise (N, 1, H, W), each image's from its own seed alone.

    By numpy, on the CPU: torch's CPU generator looks at the lower 32 bits of a seed only, so that
    among 100,000 images with 63-bit seeds one pair would share its noise.
    """
    shape = (1, size_px, size_px)
    return np.stack([np.random.default_rng(s).standard_normal(shape, np.float32) for s in seeds])


def to_pixels(x: torch.Tensor) -> NDArray[np.uint8]:
    """[-1, 1] (N, 1, H, W) to the nearest of 0 .. 255 (N, H, W)."""
    return ((x[:, 0] + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def _examples(task: TrainTask) -> Examples:
    encoder = ENCODERS[PRESETS[task.preset].encoder]
    images: NDArray[np.uint8] = np.load(task.images, mmap_mode="r")
    return Examples(images, encoder.encode(task.conditions), encoder.attribute)


class LossCurve:
    """(step, mean loss since the last point), a point every `CURVE_STEPS` steps."""

    def __init__(self) -> None:
        self._points: list[tuple[int, float]] = []
        self._since: list[float] = []
        self._step = 0

    def add(self, step: int, loss: float) -> None:
        self._step = step
        self._since.append(loss)
        if step % CURVE_STEPS == 0:
            self._close()

    def points(self) -> list[tuple[int, float]]:
        """The points, the last over what is left."""
        if self._since:
            self._close()
        return self._points

    def _close(self) -> None:
        self._points.append((self._step, float(np.mean(self._since))))
        self._since = []
