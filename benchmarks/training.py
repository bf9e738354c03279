"""Training of classifiers beside what it stands on: the way of images, and a bare loop of PyTorch.

Run from the repository's root: `python -m benchmarks.training [--images 512] [--rounds 5]`.
All images are drawn phantoms, on disk as PNG. Everything is done by one core, in one process, and a
rate is by the processor's time, which says more than the clock's on a machine that others use; with
`--cores 4` by as many, and by the clock. Contenders are measured by turns, a ratio is the median
over the rounds.

- The way of images: from files to a batch that was augmented as the paper's are, without a network.
  The published loading decodes each file and transforms each image by itself: here with nothing
  but the computation, and, where MONAI can be imported, as MONAI does it. Ours gathers bytes that
  were packed once, and transforms the batch. A loop that is fed from memory does the latter with a
  tensor that is there already: it is the limit.
- The loop: steps of a run beside a bare loop of PyTorch on the same network and a batch that is
  there already: forward, loss, backward, clipping and optimiser; then also with the augmentation
  and the average that the run has.
"""

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from api_schemas.imports import PhantomSite
from services.datasets.importers.phantom import draw as draw_phantoms
from services.datasets.importers.phantom import population
from services.training.classifier import average
from services.training.classifier.batches import ahead, draw
from services.training.classifier.cache import SourceCache
from services.training.classifier.loop import CLIP_NORM, OPTIMISERS, Run
from services.training.classifier.mixing import mix
from services.training.classifier.network import Shape, make_network, standardise
from services.training.classifier.objective import masked_bce
from services.training.classifier.presets import PRESETS, Preset
from services.training.ports.engine import Part, RunSpec, StageSpec

SIZE_PX = 256
DRAWN = 32
BATCH = 32
LABELS = 14
PAPER = PRESETS["paper"].recipe
DRESSED = "bare, augmented and averaged"
Pixels = NDArray[np.uint8]


def png(pixels: Pixels) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def phantoms(count: int, size_px: int) -> Pixels:
    """A few phantoms again and again, each with grain of its own."""
    drawn = draw_phantoms(population(PhantomSite.A, DRAWN, seed=1)[:DRAWN], size_px)
    rng = np.random.default_rng(2)
    grain = rng.integers(-4, 5, (count, size_px, size_px))
    return np.clip(np.resize(drawn, (count, size_px, size_px)) + grain, 0, 255).astype(np.uint8)


def rate_of(count: int, work: Callable[[], object], cores: int) -> Callable[[], float]:
    """How many a second, by the processor's time of one core or by the clock of several."""
    clock = time.process_time if cores == 1 else time.perf_counter

    def measure() -> float:
        began = clock()
        work()
        return count / (clock() - began)

    return measure


def by_turns(rounds: int, contenders: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """What each measures, round by round; the first round warms up and does not count."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, measure in contenders.items():
            rate = measure()
            if number:
                rates[name].append(rate)
    return rates


def ratio(rates: dict[str, list[float]], one: str, other: str) -> float:
    return median(a / b for a, b in zip(rates[one], rates[other], strict=True))


# ---------------------------------------------------------------- the way of images


class Published(Dataset[Tensor]):
    """The paper's loading: each image decoded, and transformed by itself as MONAI would."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, at: int) -> Tensor:
        rng = np.random.default_rng([at, time.perf_counter_ns()])
        with Image.open(self._paths[at]) as file:
            image = torch.from_numpy(np.asarray(file.convert("L"), np.float32))[None]
        image = resized(image)
        low, high = image.min(), image.max()
        image = (image - low) / (high - low) * 2 - 1
        for axis in (-1, -2):
            if rng.random() < PAPER.augmentation.flip:
                image = image.flip(axis)
        if rng.random() < PAPER.augmentation.noisy:
            noise = rng.normal(0, PAPER.augmentation.noise, image.shape).astype(np.float32)
            image = image + torch.from_numpy(noise)
        if rng.random() < PAPER.augmentation.affine:
            image = affine(image, rng)
        return image


def resized(image: Tensor) -> Tensor:
    """The longest side to `SIZE_PX`, the short one padded; as it is, if it is so already."""
    longest = max(image.shape)
    if longest != SIZE_PX:
        size = [round(side * SIZE_PX / longest) for side in image.shape[-2:]]
        image = functional.interpolate(image[None], size, mode="bilinear")[0]
    height, width = (SIZE_PX - side for side in image.shape[-2:])
    return functional.pad(
        image, (width // 2, width - width // 2, height // 2, height - height // 2)
    )


def affine(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Turned, scaled and shifted on a grid of its own."""
    how = PAPER.augmentation
    turn, size, right, down = rng.uniform(-1, 1, 4)
    angle, zoom = turn * how.rotation_rad, 1 + size * how.scale
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    moves = [[cos, -sin, 2 * right * how.shift], [sin, cos, 2 * down * how.shift]]
    theta = torch.tensor([moves], dtype=torch.float32)
    grid = functional.affine_grid(theta, [1, 1, SIZE_PX, SIZE_PX], align_corners=False)
    moved = functional.grid_sample(image[None], grid, padding_mode="border", align_corners=False)
    return moved[0]


def transformed(pixels: Tensor, step: int) -> Tensor:
    """Bytes to a batch as the preset `paper` trains on it."""
    rng = np.random.default_rng([0, step])
    images = PAPER.augmentation(standardise(pixels), rng, torch.Generator().manual_seed(step))
    mix(images, rng, PAPER.mixing)
    return images


def by_monai(paths: list[Path]) -> Dataset[Tensor] | None:
    """The same by MONAI, if it is there: it is no requirement of this project."""
    try:
        from monai import data, transforms  # noqa: PLC0415 - see above
    except ImportError:
        return None
    how = PAPER.augmentation
    steps = transforms.Compose(
        [
            transforms.LoadImage(reader="PILReader", ensure_channel_first=True),
            transforms.Resize(SIZE_PX, size_mode="longest", mode="bilinear"),
            transforms.ScaleIntensity(-1, 1),
            transforms.SpatialPad((SIZE_PX, SIZE_PX), value=-1),
            transforms.RandFlip(how.flip, 0),
            transforms.RandFlip(how.flip, 1),
            transforms.RandGaussianNoise(how.noisy, std=how.noise),
            transforms.RandAffine(
                how.affine,
                rotate_range=how.rotation_rad,
                scale_range=how.scale,
                translate_range=how.shift * SIZE_PX,
                padding_mode="border",
                mode="bilinear",
            ),
            transforms.ToTensor(track_meta=False),
        ]
    )
    return data.Dataset([str(path) for path in paths], steps)


def loaded(images: Dataset[Tensor], cores: int) -> Callable[[], Iterator[Tensor]]:
    """By torch's loader, its processes (if the cores are several) kept from round to round."""
    workers = 0 if cores == 1 else cores
    loader: DataLoader[Tensor] = DataLoader(
        images, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )

    def batches() -> Iterator[Tensor]:
        for step, batch in enumerate(loader):
            mix(batch, np.random.default_rng([0, step]), PAPER.mixing)
            yield batch

    return batches


def written(folder: Path, images: Pixels) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{i}.png" for i in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        path.write_bytes(png(pixels))
    return paths


def input_path(count: int, rounds: int, cores: int, folder: Path) -> None:
    pixels = phantoms(count, SIZE_PX)
    large = np.stack([np.asarray(Image.fromarray(p).resize((320, 390))) for p in pixels])
    paths, larger = written(folder / "same", pixels), written(folder / "larger", large)
    packing = rate_of(count, lambda: packed_of(folder, paths), cores)()
    packed, memory = packed_of(folder, paths), torch.from_numpy(pixels)
    ways = {
        **ours(packed, memory),
        **loadings({"256 px": paths, "390 x 320 px": larger}, cores),
    }
    rates = by_turns(
        rounds, {name: rate_of(count, partial(exhaust, way), cores) for name, way in ways.items()}
    )
    print(f"\nthe way of images, {count} of {SIZE_PX} px, batches of {BATCH}: images/s, ours to it")
    mine = next(iter(ways))
    for name, many in rates.items():
        print(f"  {name:<52}{median(many):>9.0f}{ratio(rates, mine, name):>8.2f}")
    print(f"  {'packing, once a source':<52}{packing:>9.0f}")


Ways = dict[str, Callable[[], Iterator[Tensor]]]


def ours(packed: Pixels, memory: Tensor) -> Ways:
    steps = len(packed) // BATCH

    def positions(step: int) -> NDArray[np.int64]:
        return draw(0, 0, step, len(packed), BATCH)

    def gathered(step: int) -> Tensor:
        return torch.from_numpy(packed[positions(step)])

    def from_pack() -> Iterator[Tensor]:
        with closing(ahead(gathered, 0, steps)) as batches:
            for step, batch in enumerate(batches):
                yield transformed(batch, step)

    def from_memory() -> Iterator[Tensor]:
        for step in range(steps):
            yield transformed(memory[torch.from_numpy(positions(step))], step)

    return {
        "packed, augmented in batches (ours)": from_pack,
        "fed from memory, augmented in batches (the limit)": from_memory,
        "packed, gathered alone (what a GPU's host does)": lambda: map(gathered, range(steps)),
    }


def loadings(files: dict[str, list[Path]], cores: int) -> Ways:
    return {
        f"published, {how}, files of {size}": loaded(images, cores)
        for how, make in {"bare": Published, "by MONAI": by_monai}.items()
        for size, paths in files.items()
        if (images := make(paths)) is not None
    }


def packed_of(folder: Path, paths: list[Path]) -> Pixels:
    cache = SourceCache(folder / "cache", 10**11)
    return cache.open("bench", len(paths), SIZE_PX, lambda i: paths[i].read_bytes())


def exhaust(batches: Callable[[], Iterator[Tensor]]) -> None:
    for _ in batches():
        pass


# ---------------------------------------------------------------- the loop


def spec(preset: str, size_px: int, batch: int, steps: int) -> RunSpec:
    images = phantoms(4 * batch, size_px)
    targets = np.random.default_rng(3).integers(-1, 2, (len(images), LABELS)).astype(np.int8)
    part = Part(images, np.arange(len(images)), targets)
    return RunSpec(
        labels=tuple(str(i) for i in range(LABELS)),
        size_px=size_px,
        seed=1,
        stages=(StageSpec((part,), steps),),
        validation=Part(images[:2], np.arange(2), targets[:2]),
        preset=preset,
        batch_size=batch,
        learning_rate=1e-5,
        weight_decay=3e-4,
        validate_every=steps,
    )


def bare(asked: RunSpec, preset: Preset, *, dressed: bool) -> Callable[[], object]:
    """A step of PyTorch and nothing else: its batch is there, and never changes. `dressed`: with
    the augmentation and the average of the preset.
    """
    network = make_network(preset.shape(asked.size_px), LABELS, seed=1).train()
    weights = list(network.parameters())
    kind: Callable[..., torch.optim.Optimizer] = OPTIMISERS[preset.recipe.optimiser]
    groups = [{"params": weights, "weight_decay": asked.weight_decay}]
    optimiser = kind(groups, betas=preset.recipe.betas, lr=asked.learning_rate)
    part = asked.stages[0].parts[0]
    images = standardise(torch.from_numpy(part.images[: asked.batch_size]))
    targets = torch.from_numpy(part.targets[: asked.batch_size])
    rng, noise, mean = np.random.default_rng(1), torch.Generator(), deepcopy(weights)

    def step() -> None:
        batch = images
        if dressed:
            batch = preset.recipe.augmentation(images.clone(), rng, noise)
            mix(batch, rng, preset.recipe.mixing)
        optimiser.zero_grad()
        loss = masked_bce(network(batch), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, CLIP_NORM)
        optimiser.step()
        if dressed:
            average.move(mean, weights, preset.recipe.ema)
        loss.item()

    return step


def loop(
    name: str, preset: Preset, asked: dict[str, Any], rounds: int, steps: int, cores: int
) -> None:
    told = spec(steps=steps * (rounds + 2), **asked)
    run = Run(told, preset, torch.device("cpu"))
    theirs = {name: bare(told, preset, dressed=name == DRESSED) for name in ("bare", DRESSED)}
    with closing(run.batches()) as batches:
        every = {**theirs, "ours": lambda: run.advance(next(batches))}
        rates = by_turns(
            rounds,
            {who: rate_of(steps, repeated(steps, step), cores) for who, step in every.items()},
        )
    size, parameters = asked["batch"], sum(p.numel() for p in run.network.parameters())
    print(
        f"\n{name}: {parameters:,} parameters, {asked['size_px']} px, batches of {size}; ours to it"
    )
    for who, many in rates.items():
        print(
            f"  {who:<36}{median(many):>9.2f} steps/s{median(many) * size:>9.0f} images/s"
            f"{ratio(rates, 'ours', who):>8.2f}"
        )


def repeated(times: int, step: Callable[[], object]) -> Callable[[], None]:
    def work() -> None:
        for _ in range(times):
            step()

    return work


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--images", type=int, default=512)
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--cores", type=int, default=1)
    asked.add_argument("--only", choices=["images", "loop"])
    said = asked.parse_args()
    torch.set_num_threads(said.cores)
    print(f"{said.cores} of {os.cpu_count()} cores, torch {torch.__version__}")
    if said.only != "loop":
        with tempfile.TemporaryDirectory() as folder:
            input_path(said.images // BATCH * BATCH, said.rounds, said.cores, Path(folder))
    if said.only != "images":
        fast = {"preset": "fast", "size_px": 64, "batch": 32}
        loop("fast", PRESETS["fast"], fast, said.rounds, 30, said.cores)
        shape = Shape(patch=4, depths=(1, 1, 2, 1), widths=(32, 64, 128, 256), layer_scale=1e-6)
        small = Preset(lambda _: shape, PAPER)
        paper = {"preset": "paper", "size_px": 128, "batch": 32}
        loop("paper, a smaller network", small, paper, said.rounds, 3, said.cores)


if __name__ == "__main__":
    main()
