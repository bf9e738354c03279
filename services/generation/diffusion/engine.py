"""The engine: what a worker may ask of the science, in files and arrays."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from api_schemas.generation import Condition, Environment
from api_schemas.generation import Sampler as SamplerSettings
from services.generation.diffusion import mediffusion
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
from services.generation.ports.engine import (
    Imported,
    OutOfDeviceMemory,
    RenderTask,
    Stretch,
    TrainTask,
    Weights,
)

CURVE_STEPS = 25
"""A point of the loss curve is the mean over this many steps."""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
        self._warm: tuple[tuple[str, str], Model] | None = None

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

    def import_checkpoint(self, source: Path, destination: Path, wanted: Weights) -> Imported:
        """Turn a checkpoint of the authors' package into a weights file of ours."""
        return mediffusion.import_checkpoint(source, destination, wanted)

    def render(self, task: RenderTask) -> NDArray[np.uint8]:
        """Images (N, size, size), each from its own condition and seed alone."""
        model, B = self._model(task), task.batch
        with self._memory():
            batches = [
                self._sample(
                    model, task.conditions[i : i + B], task.seeds[i : i + B], task.sampler, B
                )
                for i in range(0, len(task.seeds), B)
            ]
        return np.concatenate(batches)

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
        wanted = task.digest, task.sampler.precision
        if self._warm is None or self._warm[0] != wanted:
            self._warm = None  # two at once may be more than the device holds
            model = load_weights(task.weights)
            self._warm = wanted, model.to(self._device, PRECISIONS[task.sampler.precision])
        return self._warm[1]

    @torch.inference_mode()
    def _sample(
        self,
        model: Model,
        conditions: Sequence[Condition],
        seeds: Sequence[int],
        settings: SamplerSettings,
        batch: int,
    ) -> NDArray[np.uint8]:
        """At most `batch` images, in a batch that is padded to its shape and cut again."""
        real = len(seeds)
        padding = batch - real
        vectors = np.pad(model.encoder.encode(conditions), ((0, padding), (0, 0)))
        c = torch.from_numpy(vectors).to(self._device)
        x = torch.from_numpy(noise([*seeds, *[0] * padding], model.size_px)).to(self._device)
        denoiser = Denoiser(model.network, model.schedule, c, guidance_of(settings), real)
        x_0 = SAMPLERS[settings.name](denoiser, x, model.schedule, settings.steps)[:real]
        if model.transposed:
            x_0 = x_0.mT
        return truncated(x_0) if settings.compatibility else rounded(x_0)


def guidance_of(settings: SamplerSettings) -> Guidance:
    """What a request's settings mean. The published scale 0 is plain conditional sampling."""
    published = settings.compatibility is not None
    w = 1.0 if published and settings.guidance == 0.0 else settings.guidance
    return Guidance(w, settings.interval, settings.rescale, batch_wide=published)


def noise(seeds: Sequence[int], size_px: int) -> NDArray[np.float32]:
    """The starting noise (N, 1, H, W), each image's from its own seed alone.

    By numpy, on the CPU: torch's CPU generator looks at the lower 32 bits of a seed only, so that
    among 100,000 images with 63-bit seeds one pair would share its noise.
    """
    shape = (1, size_px, size_px)
    return np.stack([np.random.default_rng(s).standard_normal(shape, np.float32) for s in seeds])


def rounded(x: torch.Tensor) -> NDArray[np.uint8]:
    """[-1, 1] (N, 1, H, W) to the nearest of 0 .. 255 (N, H, W)."""
    return _pixels((127.5 * (x + 1.0)).round())


def truncated(x: torch.Tensor) -> NDArray[np.uint8]:
    """The same as published, always downwards: half a grey level darker."""
    return _pixels(127.5 * (x + 1.0))


def _pixels(x: torch.Tensor) -> NDArray[np.uint8]:
    return x[:, 0].clamp(0, 255).to(torch.uint8).cpu().contiguous().numpy()


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
