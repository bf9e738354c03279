"""The engine: what a worker may ask of the science, in files and arrays."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from api_schemas.generation import Environment, Kernel
from services.generation.diffusion import loop, mediffusion, ranks
from services.generation.diffusion.checkpoints import Model, load_weights
from services.generation.diffusion.network import Network
from services.generation.diffusion.ranks import Crew
from services.generation.diffusion.sampling import sample
from services.generation.ports.engine import (
    Imported,
    Look,
    OutOfDeviceMemory,
    RenderTask,
    Stretch,
    TrainTask,
    Weights,
)

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Kernels:
    """How the network is run for sampling; other kernels may give other last bits.

    `compile` is `off`, `on`, or `graphs`: also captured as CUDA graphs.
    """

    channels_last: bool = False
    compile: str = "off"

    @property
    def names(self) -> list[Kernel]:
        """What an environment says of them; nothing of the plain ones."""
        used: dict[Kernel, bool] = {
            "channels_last": self.channels_last,
            "compiled": self.compile != "off",
            "graphs": self.compile == "graphs",
        }
        return [name for name, is_used in used.items() if is_used]

    def set_up(self, network: Network) -> None:
        if self.channels_last:
            nn.Module.to(network.unet, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - torch's overloads want it among others
        if self.compile != "off":
            mode = "reduce-overhead" if self.compile == "graphs" else None
            network.unet.compile(dynamic=False, mode=mode)  # a batch has one of few shapes


class DiffusionEngine:
    """Trains and samples on one device, as `services.generation.ports.engine.Engine` wants it.

    Keeps the model it sampled from last. Not for use by two threads at once.
    """

    def __init__(
        self,
        device: str = "auto",
        threads: int | None = None,
        crew: Crew | None = None,
        kernels: Kernels | None = None,
    ) -> None:
        """`auto` takes a GPU where there is one; `threads` limits the CPU (None: all cores).

        A `crew` trains in processes of their own, on all GPUs of this host or of several.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if threads is not None:
            torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic = True
        self._device = torch.device(device)
        self._crew = crew
        self._kernels = kernels or Kernels()
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
            kernels=self._kernels.names,
        )

    def train(
        self,
        task: TrainTask,
        *,
        seconds: float,
        should_stop: Callable[[], bool],
        progress: Callable[[int, float], None],
        show: Callable[[Look], None] = lambda _: None,
    ) -> Stretch:
        """Train until the steps are done, `seconds` are over or `should_stop`; save the state."""
        run = loop.train
        if self._crew is not None:
            self._warm = None  # the crew needs the memory
            run = partial(ranks.train, crew=self._crew)
        with self._memory():
            return run(
                task,
                self._device,
                seconds=seconds,
                should_stop=should_stop,
                progress=progress,
                show=show,
            )

    def import_checkpoint(self, source: Path, destination: Path, wanted: Weights) -> Imported:
        """Turn a checkpoint of the authors' package into a weights file of ours."""
        return mediffusion.import_checkpoint(source, destination, wanted)

    def render(self, task: RenderTask) -> NDArray[np.uint8]:
        """Images (N, size, size), each from its own condition and seed alone."""
        model, B = self._model(task), task.batch
        with self._memory():
            batches = [
                sample(
                    model,
                    self._device,
                    task.conditions[i : i + B],
                    task.seeds[i : i + B],
                    task.sampler,
                    B,
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
            model = model.to(self._device, PRECISIONS[task.sampler.precision])
            self._kernels.set_up(model.network)
            self._warm = wanted, model
        return self._warm[1]
