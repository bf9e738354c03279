"""Which checkpoint of a training is best to keep: rules compared on classifiers trained here.

Run from the repository's root: `python -m benchmarks.checkpoints [--runs 12] [--images 300]`, and
with `--data labels.csv` on the images of a CheXpert-style table instead of drawn phantoms.

Each run trains the `fast` classifier once and scores a pool of validation images and a test set at
every validation. Every rule is then applied to many random validation sets from the pool, of 30, 90
and 300 images. A line gives the mean test macro AUROC of the checkpoints that a rule kept, how far
it lies below the best checkpoint of the run (which no rule can know), and the mean share of the
steps after which the kept checkpoint stands.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from api_schemas.findings import FINDINGS
from api_schemas.imports import PhantomSite
from services.datasets.importers.phantom import draw as draw_phantoms
from services.datasets.importers.phantom import population
from services.training.classifier.auroc import macro_auroc
from services.training.classifier.loop import Run, logits
from services.training.classifier.presets import PRESETS
from services.training.ports.engine import UNKNOWN, Part, Pixels, RunSpec, StageSpec

SIZE_PX = 32
VALIDATIONS = 20
DRAWS = 40
SIZES = (30, 90, 300)
Scores = NDArray[np.float64]
Targets = NDArray[np.int8]
Rule = Callable[[list[float | None], list[float]], int]
"""The position of the kept checkpoint, from the AUROC and the loss of every validation."""


@dataclass(frozen=True)
class Labelled:
    """Pixels (N, H, W) and targets (N, L)."""

    pixels: Pixels
    targets: Targets

    def take(self, rows: NDArray[np.int64]) -> Part:
        return Part(self.pixels, rows, self.targets[rows])


def phantoms(count: int, seed: int) -> Labelled:
    people = population(PhantomSite.A, count, seed=seed)[:count]
    told = [[person.labels.get(name) for name in FINDINGS] for person in people]
    targets = np.array([[UNKNOWN if v is None else v for v in row] for row in told], np.int8)
    return Labelled(np.asarray(draw_phantoms(people, SIZE_PX)), targets)


def films(table: Path) -> Labelled:
    """The frontal images of a CheXpert-style table, in an order of their own."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pixels = np.stack([_film(table.parent / row["Path"]) for row in rows])
    words = {"1": 1, "1.0": 1, "0": 0, "0.0": 0}
    told = [[words.get(row.get(name, ""), UNKNOWN) for name in FINDINGS] for row in rows]
    return Labelled(pixels, np.array(told, np.int8))


def _film(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as file:
        return np.asarray(file.convert("L").resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX))


def best(merits: list[float | None], since: float = 0.0) -> int:
    """The last of the best in the positions from the share `since` on."""
    first = min(len(merits) - 1, round(since * len(merits)))
    known = [(m, at) for at, m in enumerate(merits) if at >= first and m is not None]
    return max(known)[1] if known else len(merits) - 1


def _by_auroc(since: float) -> Rule:
    return lambda aurocs, _losses: best(aurocs, since)


def _by_loss(since: float) -> Rule:
    return lambda _aurocs, losses: best([-loss for loss in losses], since)


RULES: dict[str, Rule] = {
    "best AUROC": _by_auroc(0.0),
    "best AUROC, second half": _by_auroc(0.5),
    "least loss": _by_loss(0.0),
    "least loss, after a tenth": _by_loss(0.1),
    "least loss, after a quarter": _by_loss(0.25),
    "least loss, second half": _by_loss(0.5),
    "last": lambda aurocs, _losses: len(aurocs) - 1,
}


@dataclass(frozen=True)
class Trained:
    """Scores of every validation of one run: of the pool and of the test set."""

    pool: list[Scores]
    pool_truth: Targets
    test: list[float]


def train(data: Labelled, images: int, epochs: float, seed: int) -> Trained:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data.pixels))
    training, rest = order[:images], order[images:]
    pool, test = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    steps = round(epochs * images / 32)
    spec = RunSpec(
        labels=tuple(FINDINGS),
        size_px=SIZE_PX,
        seed=seed,
        stages=(StageSpec((data.take(training),), steps),),
        validation=data.take(pool),
        preset="fast",
        batch_size=32,
        learning_rate=1e-3,
        weight_decay=0.05,
        validate_every=max(1, steps // VALIDATIONS),
    )
    run = Run(spec, PRESETS["fast"], torch.device("cpu"))
    kept, scored, states = [], [], []
    with closing(run.batches()) as batches:
        for batch in batches:
            before = len(run.tally.curve)
            run.advance(batch)
            if len(run.tally.curve) > before:
                kept.append(_scores(run, data, pool))
                scored.append(_test(run, data, test))
                states.append(deepcopy(run.averaged.state_dict()))
    return Trained(kept, data.targets[pool], scored)


def _scores(run: Run, data: Labelled, rows: NDArray[np.int64]) -> Scores:
    found = logits(run.averaged, lambda at: data.pixels[rows[at]], len(rows), run.device, "float32")
    return found.numpy()


def _test(run: Run, data: Labelled, rows: NDArray[np.int64]) -> float:
    value = macro_auroc(data.targets[rows], _scores(run, data, rows))
    assert value is not None  # noqa: S101 - the test set has both classes
    return value


def _loss(scores: Scores, targets: Targets) -> float:
    known = targets != UNKNOWN
    losses = np.logaddexp(0.0, np.where(targets == 1, -scores, scores))
    return float(losses[known].mean()) if known.any() else 0.0


def kept(trained: Trained, size: int, seed: int) -> Iterator[tuple[str, int]]:
    """What each rule keeps with one validation set of `size` images from the pool."""
    rng = np.random.default_rng([seed, size])
    for _ in range(DRAWS):
        rows = rng.choice(len(trained.pool_truth), min(size, len(trained.pool_truth)), False)
        truth = trained.pool_truth[rows]
        aurocs = [macro_auroc(truth, scores[rows]) for scores in trained.pool]
        losses = [_loss(scores[rows], truth) for scores in trained.pool]
        for name, rule in RULES.items():
            yield name, rule(aurocs, losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--epochs", type=float, default=10.0)
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    for seed in range(asked.runs):
        data = films(asked.data) if asked.data else phantoms(asked.images + 1200, seed + 1)
        trained = train(data, asked.images, asked.epochs, seed)
        top = max(trained.test)
        for size in SIZES:
            for name, at in kept(trained, size, seed):
                value = trained.test[at]
                share = (at + 1) / len(trained.test)
                found.setdefault((name, size), []).append((value, top - value, share))
    print(f"{asked.runs} runs of {asked.images} images, {asked.epochs:g} epochs, {DRAWS} draws")
    print("validation  rule                        test AUROC  below best  (worst 5 %)  after")
    for (name, size), values in sorted(found.items(), key=lambda item: item[0][1]):
        value, below, share = np.array(values).T
        print(
            f"{size:6} img  {name:27} {value.mean():10.4f} {below.mean():11.4f}"
            f" {np.quantile(below, 0.95):12.4f} {share.mean():6.0%}"
        )


if __name__ == "__main__":
    main()
