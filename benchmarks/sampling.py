"""Images per second of the bare sampling loop, beside what the device could do at most.

    python -m benchmarks.sampling
    python -m benchmarks.sampling --device cuda --preset paper-256 --batch 64

Counts the floating point operations of a forward, measures the device's rate of matrix products
(anew beside every row: on a shared machine it changes), and states both as a bound: nothing that
computes the same forwards is faster. Then the paper's settings and ours, side by side. A CPU gets
`tiny-32` and batches of 8, a GPU the paper's network and batches of 64.
"""

import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from cyclopts import App
from torch.utils.flop_counter import FlopCounterMode

from api_schemas.findings import FINDINGS, Race, Sex
from api_schemas.generation import Condition, Sampler
from services.generation.diffusion.checkpoints import write_weights
from services.generation.diffusion.encoders import ENCODERS
from services.generation.diffusion.engine import PRECISIONS, DiffusionEngine, Kernels
from services.generation.diffusion.network import Network
from services.generation.diffusion.presets import PRESETS, Preset
from services.generation.ports.engine import RenderTask

MATMUL_ROUNDS = 10
PATIENT = Condition(age=67, sex=Sex.MALE, race=Race.WHITE, findings=dict.fromkeys(FINDINGS, 0))

app = App(help=__doc__, help_format="plaintext")


@dataclass(frozen=True)
class Settings:
    name: str
    sampler: Sampler

    @property
    def forwards(self) -> int:
        """Of the network, an image."""
        plain = self.sampler.guidance in {0.0, 1.0}
        return self.sampler.steps * (1 if plain else 2)


def settings(precision: str, published: str) -> list[Settings]:
    def paper(guidance: float) -> Sampler:
        return Sampler(compatibility="mediffusion", guidance=guidance, precision=published)

    def ours(steps: int, guidance: float) -> Sampler:
        return Sampler(steps=steps, guidance=guidance, precision=precision)

    return [
        Settings("paper: DDIM-200", paper(0.0)),
        Settings("paper: DDIM-200, guidance 4", paper(4.0)),
        Settings("ours: dpmsolver++ 20", ours(20, 1.0)),
        Settings("ours: dpmsolver++ 25", ours(25, 1.0)),
        Settings("ours: dpmsolver++ 20, guidance 4", ours(20, 4.0)),
    ]


def network(preset: Preset) -> Network:
    return Network(preset.architecture, ENCODERS[preset.encoder].width)


def flops(preset: Preset) -> int:
    """Floating point operations of a forward of one image, a product and its sum being two."""
    size, width = preset.architecture.size_px, ENCODERS[preset.encoder].width
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad(), counter:
        inputs = torch.zeros(1, 1, size, size), torch.zeros(1, dtype=torch.long)
        network(preset)(*inputs, torch.zeros(1, width))
    return counter.get_total_flops()


def matmul_rate(device: torch.device, precision: torch.dtype) -> float:
    """Operations per second of large matrix products, the best of several."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device, dtype=precision) for _ in range(2))
    times = [seconds(device, lambda: a @ b) for _ in range(MATMUL_ROUNDS)]
    return 2 * n**3 / min(times)


def seconds(device: torch.device, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


@app.default
def main(
    *,
    device: str = "cpu",
    preset: str | None = None,
    batch: int | None = None,
    precision: str | None = None,
    batches: int = 1,
    threads: int = 1,
    channels_last: bool = False,
    compile: Literal["off", "on", "graphs"] = "off",  # noqa: A002 - the option's name
) -> None:
    """`batches` are timed of every settings, after one that is not.

    More threads than idle cores would measure how they wait for each other.
    """
    place = torch.device(device)
    torch.set_num_threads(threads)
    on_gpu = place.type == "cuda"
    preset = preset or ("paper-256" if on_gpu else "tiny-32")
    precision = precision or ("bfloat16" if on_gpu else "float32")
    published = "float16" if on_gpu else precision
    batch = batch or (64 if on_gpu else 8)
    name = torch.cuda.get_device_name(place) if on_gpu else f"{platform.machine()} CPU"
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for each, known in PRESETS.items():
        with torch.device("meta"):
            parameters = sum(p.numel() for p in network(known).parameters())
        print(f"  {each:<9} {parameters:>11,} parameters {flops(known) / 1e9:8.2f} GFLOP a forward")
    print(f"\n{preset}, batches of {batch}, {precision} (paper: {published}): images/s")
    print(f"  {'':<33}{'forwards':>9}{'TFLOP/s':>9}{'bound':>9}{'measured':>10}{'of bound':>10}")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.safetensors"
        shape, encoder = PRESETS[preset].architecture, PRESETS[preset].encoder
        write_weights(weights, network(PRESETS[preset]).state_dict(), shape, encoder, {})
        engine = DiffusionEngine(device, threads, kernels=Kernels(channels_last, compile))
        for each in settings(precision, published):
            rate = matmul_rate(place, PRECISIONS[each.sampler.precision])
            images = measured(engine, place, weights, each.sampler, batch, batches)
            bound = rate / (flops(PRESETS[preset]) * each.forwards)
            print(
                f"  {each.name:<33}{each.forwards:>9}{rate / 1e12:>9.2f}{bound:>9.2f}"
                f"{images:>10.2f}{images / bound:>10.1%}"
            )


def measured(
    engine: DiffusionEngine,
    device: torch.device,
    weights: Path,
    sampler: Sampler,
    batch: int,
    batches: int,
) -> float:
    """Images per second of the engine, whose model is warm."""

    def order(sampler: Sampler, count: int) -> RenderTask:
        return RenderTask(weights, "bench", [PATIENT] * count, range(count), sampler, batch)

    engine.render(order(sampler.model_copy(update={"steps": 2}), batch))
    count = batch * batches
    return count / seconds(device, lambda: engine.render(order(sampler, count)))


if __name__ == "__main__":
    app()
