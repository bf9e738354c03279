"""Near-copy screening: its rate beside the machine's rate of matrix products, and what it finds.

Run from the repository's root: `python -m benchmarks.screening [--images 4000] [--training 4096]
[--real ../shared/cxr]`. The rate is measured on noise, and stated for 10,000 images
against 70,000; what is found is measured on the real radiographs of `--real`, where that folder is
there. Times are of one process with all cores; every share is of products measured beside it.
"""

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from api_schemas.imports import PhantomSite
from services.copies.calibration import ALTERATIONS, above, altered, null
from services.copies.pictures import DESCRIPTOR, picture, variants
from services.copies.search import BLOCK, FLOPS_A_PAIR, Nearest, Queries, likeness, search
from services.datasets.importers.phantom import draw, population

ASKED = (10_000, 70_000)
DRAWN = 64
PART = 2048
INJECTED = 200
Pixels = NDArray[np.uint8]


# ---------------------------------------------------------------- rate


def bare(m: int, k: int, n: int) -> Callable[[], object]:
    """A float32 product of matrices, and nothing else."""
    rng = np.random.default_rng(0)
    left, right = (rng.random(shape, np.float32) for shape in ((m, k), (k, n)))
    out = np.empty((m, n), np.float32)
    return lambda: np.matmul(left, right, out=out)


def rate(images: int, training: int) -> None:
    """Searches in parts, bare products before and after each: the machine may be shared."""
    phantoms = draw(population(PhantomSite.A, DRAWN, seed=1)[:DRAWN], 128)
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.3, (max(images, PART), 80, 80)).astype(np.float16)
    queries, block = Queries.of([noise[:images]]), variants(noise[:BLOCK])
    both = np.ones((images, 2, DESCRIPTOR), np.float32)
    peak = bare(2048, 2048, 2048)
    parts = max(1, training // PART)
    seconds: dict[str, list[float]] = {}
    for _ in range(parts):
        for name, call in {
            "peak": lambda: [peak() for _ in range(10)],
            "search": lambda: search(queries, noise[:PART]),
            "compare": lambda: likeness(both, block),
            "vary": lambda: variants(noise[:BLOCK]),
            "read": lambda: [picture(px) for px in phantoms[:64]],
        }.items():
            seconds.setdefault(name, []).append(timed(call))
    took = {name: float(np.median(each)) for name, each in seconds.items()}
    peak_rate = 10 * 2 * 2048**3 / took["peak"]
    compare_rate = images * BLOCK * FLOPS_A_PAIR / took["compare"]
    search_rate = images * PART * FLOPS_A_PAIR / took["search"]
    vary_s, read_s = took["vary"] / BLOCK, took["read"] / 64
    align_s = took["search"] / images - PART * (FLOPS_A_PAIR / compare_rate + vary_s / images)
    print(f"bare products of 2048 x 2048    {peak_rate / 1e9:6.1f} GFLOP/s")
    print(
        f"comparing every pair            {compare_rate / 1e9:6.1f} {compare_rate / peak_rate:6.0%}"
    )
    print(f"search of {images:,} in {PART:,}: {search_rate / 1e9:.1f} GFLOP/s, alignment and all")
    print(f"to read a picture {read_s * 1e3:.2f} ms, to move it {vary_s * 1e3:.2f} ms")
    print(f"to align an image with its candidates {align_s * 1e3:.1f} ms")
    wanted, among = ASKED
    flops = wanted * among * FLOPS_A_PAIR
    rest = among * (vary_s + read_s) + wanted * (align_s + read_s)
    whole = flops / compare_rate + rest
    print(
        f"{wanted:,} in {among:,}, from these: {whole / 60:.1f} min, of it comparing "
        f"{flops / compare_rate / 60:.1f}: {flops / whole / peak_rate:.0%} of bare products"
    )


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


# ---------------------------------------------------------------- what is found


def recall(folder: Path) -> None:
    for name in ("nih256", "nih64", "kermany"):
        pixels, patients = radiographs(folder, f"{name}.csv")
        people = np.unique(patients)
        rng = np.random.default_rng(1)
        rng.shuffle(people)
        held = np.isin(patients, people[: len(people) // 3])
        training = [px for px, out in zip(pixels, held, strict=True) if not out]
        among = compared(training)
        asked = [px for px, out in zip(pixels, held, strict=True) if out]
        told = null(found(asked, among).likeness, patients[held].tolist())
        if told is None:
            print(f"{name}: too few radiographs to calibrate on")
            continue
        print(
            f"{name}: {len(training)} training images, {len(asked)} of {len(people) // 3} others: "
            f"threshold {told.threshold:.3f}, false flags {told.rate:.1%}"
        )
        some = rng.choice(len(training), min(INJECTED, len(training)), replace=False)
        for alteration in ALTERATIONS:
            copies = [altered(training[i], alteration, int(i)) for i in some]
            near = found(copies, among)
            right = above(near.likeness, told.threshold) & (near.place == some)
            print(f"  {alteration:18} {right.sum():4} of {len(some)} found")


def found(asked: list[Pixels], among: NDArray[np.float16]) -> Nearest:
    return search(Queries.of([compared(asked)]), among)


def compared(pixels: list[Pixels]) -> NDArray[np.float16]:
    return np.stack([picture(px) for px in pixels])


def radiographs(folder: Path, table: str) -> tuple[list[Pixels], NDArray[np.str_]]:
    """The images of a CheXpert-style table, padded to squares as at import, and whose they are."""
    with (folder / table).open() as file:
        rows = list(csv.DictReader(file))
    return list(_squares(folder, rows)), np.array([row["PID"] for row in rows])


def _squares(folder: Path, rows: list[dict[str, str]]) -> Iterator[Pixels]:
    for row in rows:
        with Image.open(folder / row["Path"]) as image:
            grey = np.asarray(image.convert("L"))
        side = max(grey.shape)
        square = np.zeros((side, side), np.uint8)
        top, left = (side - grey.shape[0]) // 2, (side - grey.shape[1]) // 2
        square[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
        yield square


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--training", type=int, default=4096)
    parser.add_argument("--real", type=Path, default=Path("../shared/cxr"))
    asked = parser.parse_args()
    rate(asked.images, asked.training)
    if asked.real.is_dir():
        recall(asked.real)
    else:
        print(f"no radiographs in {asked.real}: what is found was not measured")


if __name__ == "__main__":
    main()
