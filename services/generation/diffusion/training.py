"""Training of the denoising network: what one step does, and all that changes from step to step.

The randomness of a step is a function of (seed, step) alone: stopping and resuming changes nothing.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from services.crew.lion import Lion
from services.generation.diffusion.encoders import ENCODERS, Vectors
from services.generation.diffusion.losses import LOSSES, Batch, Predict
from services.generation.diffusion.network import Network
from services.generation.diffusion.presets import PRESETS, Recipe
from services.generation.diffusion.schedule import Schedule
from services.generation.ports.engine import LossNotFinite, TrainTask


@dataclass(frozen=True)
class Examples:
    """The training set: images (N, H, W) uint8 and their encoded conditions (N, D).

    `attribute` (D,) says which attribute each entry of a condition belongs to.
    """

    images: NDArray[np.uint8]
    conditions: Vectors
    attribute: NDArray[np.int64]

    @classmethod
    def of(cls, task: TrainTask) -> Self:
        encoder = ENCODERS[PRESETS[task.preset].encoder]
        images: NDArray[np.uint8] = np.load(task.images, mmap_mode="r")
        return cls(images, encoder.encode(task.conditions), encoder.attribute)


def draw_batch(examples: Examples, recipe: Recipe, timesteps: int, seed: int, step: int) -> Batch:
    """The batch of one step.

    Timesteps are stratified: one from each B-th of 0 .. T - 1. The whole condition is dropped
    with probability `drop`; in a share `mask` of the rows each attribute is hidden with
    probability `hide`, which teaches the network what unknown means.
    """
    rng = np.random.default_rng([seed, step])
    B = recipe.batch
    rows = rng.integers(len(examples.images), size=B)
    x_0 = examples.images[rows, None].astype(np.float32) / 127.5 - 1.0
    eps = rng.standard_normal(x_0.shape, np.float32)
    t = ((rng.permutation(B) + rng.random(B)) * timesteps / B).astype(np.int64)
    dropped = rng.random(B) < recipe.drop
    attributes = 1 + int(examples.attribute.max())
    hidden = (rng.random((B, attributes)) < recipe.hide) & (rng.random((B, 1)) < recipe.mask)
    c = examples.conditions[rows] * ~hidden[:, examples.attribute]
    return Batch(*(torch.from_numpy(a) for a in (x_0, eps, t, c, dropped)))


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero at the last of `steps`."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    return recipe.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def ema_decay(recipe: Recipe, step: int) -> float:
    """The moving average's memory grows with the run: a short one would lag at full decay."""
    return min(recipe.ema, (1 + step) / (10 + step))


class Peers(Protocol):
    """The processes that train together, as one of them sees them: this is number `rank`."""

    rank: int
    world: int

    def wrap(self, network: Network) -> Predict:
        """The same network, its gradients being the mean of everybody's."""
        ...

    def apart(self, predict: Predict) -> AbstractContextManager[None]:
        """Gradients made in here are not shared yet."""
        ...

    def mean(self, value: torch.Tensor) -> float: ...

    def agree(self, stop: bool) -> bool:
        """What number 0 says, for all."""
        ...


class Alone:
    """Nobody else."""

    rank, world = 0, 1

    def wrap(self, network: Network) -> Predict:
        return network

    def apart(self, predict: Predict) -> AbstractContextManager[None]:  # noqa: ARG002 - the port's
        return nullcontext()

    def mean(self, value: torch.Tensor) -> float:
        return value.item()

    def agree(self, stop: bool) -> bool:
        return stop


@dataclass
class Training:
    """A training in progress: everything a checkpoint must hold, and how it goes on.

    `changes` is what its recipe has otherwise than its preset's.
    """

    preset: str
    seed: int
    steps: int
    changes: Mapping[str, Any]
    recipe: Recipe
    network: Network
    average: Network
    optimiser: torch.optim.Optimizer
    peers: Peers = field(default_factory=Alone)
    step: int = 0

    @classmethod
    def begin(
        cls,
        preset: str,
        seed: int,
        steps: int,
        device: torch.device,
        changes: Mapping[str, Any] | None = None,
        peers: Peers | None = None,
    ) -> Self:
        """Step 0. The initial weights are a function of the seed."""
        chosen, changes = PRESETS[preset], changes or {}
        recipe = replace(chosen.recipe, **changes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network(chosen.architecture, ENCODERS[chosen.encoder].width)
        network = network.to(device)
        average = deepcopy(network).requires_grad_(requires_grad=False).eval()
        optimiser = _optimiser(network, recipe)
        run = cls(preset, seed, steps, changes, recipe, network, average, optimiser)
        run.peers = peers or run.peers
        return run

    def __post_init__(self) -> None:
        self._predict: Predict | None = None

    def advance(self, examples: Examples, schedule: Schedule) -> float:
        """Draw the batch of this step and learn from it."""
        return self.learn(self.draw(examples, schedule, self.step), schedule)

    def draw(self, examples: Examples, schedule: Schedule, step: int) -> Batch:
        """What all peers learn from in a step. May run beside `learn`."""
        return draw_batch(examples, self.recipe, len(schedule), self.seed, step)

    def learn(self, batch: Batch, schedule: Schedule) -> float:
        """Do one step and return its loss. Raises `LossNotFinite` before anything is spoilt."""
        self.optimiser.zero_grad()
        value = self.peers.mean(self._descend(batch, schedule))
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        if not (math.isfinite(value) and math.isfinite(norm.item())):
            raise LossNotFinite(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = group["pace"] * learning_rate(self.recipe, self.step, self.steps)
        self.optimiser.step()
        self._follow(ema_decay(self.recipe, self.step))
        self.step += 1
        return value

    def _descend(self, batch: Batch, schedule: Schedule) -> torch.Tensor:
        """Make the gradients of this process's part of the batch; that part of the loss.

        A part of n images counts n / B of the whole, and as often as there are peers, because
        they take the mean.
        """
        device = next(self.network.parameters()).device
        loss_of, peers = LOSSES[self.recipe.loss], self.peers
        if self._predict is None:  # not before a checkpoint was put into the network
            self._predict = peers.wrap(self.network)
        predict = self._predict
        total = torch.zeros((), device=device)
        for part, last in self._parts(batch):
            with nullcontext() if last else peers.apart(predict):
                with self._mixed(device):
                    loss = loss_of(predict, schedule, part.to(device))
                loss = loss * (peers.world * len(part) / len(batch))
                loss.backward()
            total += loss.detach()
        return total

    def _parts(self, batch: Batch) -> Iterator[tuple[Batch, bool]]:
        """Images of this process, as many at once as its memory holds, and whether that is all."""
        mine = batch[self.peers.rank :: self.peers.world]
        size = self.recipe.micro_batch or len(mine)
        for first in range(0, len(mine), size):
            yield mine[first : first + size], first + size >= len(mine)

    def _mixed(self, device: torch.device) -> torch.autocast:
        """Products in bfloat16 where the recipe says so; sums, norms and weights in float32."""
        return torch.autocast(
            device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"
        )

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        """Move the average: a <- decay a + (1 - decay) p."""
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for a, p in pairs:
            a.lerp_(p, 1.0 - decay)


def _optimiser(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    """In two groups of parameters, each with its `pace`, a factor of the learning rate."""
    pathway = network.pathway()
    eager = {id(p) for p in pathway}
    rest = [p for p in network.parameters() if id(p) not in eager]
    groups = [{"params": rest, "pace": 1.0}, {"params": pathway, "pace": recipe.boost}]
    kind = {"adamw": torch.optim.AdamW, "lion": Lion}[recipe.optimiser]
    return kind(groups, betas=recipe.betas, weight_decay=recipe.weight_decay)
