"""Training of the denoising network: what one step does, and all that changes from step to step.

The randomness of a step is a function of (seed, step) alone: stopping and resuming changes nothing.
"""

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from services.generation.diffusion.encoders import ENCODERS, Vectors
from services.generation.diffusion.network import Network
from services.generation.diffusion.presets import PRESETS, Recipe
from services.generation.diffusion.schedule import Schedule
from services.generation.ports.engine import LossNotFinite


@dataclass(frozen=True)
class Examples:
    """The training set: images (N, H, W) uint8 and their encoded conditions (N, D).

    `attribute` (D,) says which attribute each entry of a condition belongs to.
    """

    images: NDArray[np.uint8]
    conditions: Vectors
    attribute: NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    x_0: torch.Tensor  # (B, 1, H, W) in [-1, 1]
    eps: torch.Tensor  # (B, 1, H, W)
    t: torch.Tensor  # (B,)
    c: torch.Tensor  # (B, D)
    dropped: torch.Tensor  # (B,) bool: the whole condition is hidden

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(x.to(device) for x in (self.x_0, self.eps, self.t, self.c, self.dropped)))


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


def weighted_v_loss(network: Network, schedule: Schedule, batch: Batch) -> torch.Tensor:
    """Mean of sigma_t^2 |v - v_hat|^2 = |x_0 - x_0_hat|^2, v = alpha_t eps - sigma_t x_0.

    Salimans and Ho 2022. Unweighted, nearly clean steps, where only the grain of the picture is
    left to learn, take most of the loss; what a condition decides is decided in the noise.
    """
    tables = torch.tensor(
        np.stack([schedule.alpha, schedule.sigma]), dtype=torch.float32, device=batch.t.device
    )
    alpha, sigma = tables[:, batch.t, None, None, None]
    x_t = alpha * batch.x_0 + sigma * batch.eps
    v = alpha * batch.eps - sigma * batch.x_0
    v_hat = network(x_t, batch.t, batch.c, batch.dropped)[:, :1]
    return torch.mean(sigma**2 * (v - v_hat) ** 2)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero at the last of `steps`."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    return recipe.learning_rate * warm * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def ema_decay(recipe: Recipe, step: int) -> float:
    """The moving average's memory grows with the run: a short one would lag at full decay."""
    return min(recipe.ema, (1 + step) / (10 + step))


@dataclass
class Training:
    """A training in progress: everything a checkpoint must hold."""

    preset: str
    seed: int
    steps: int
    network: Network
    average: Network
    optimiser: torch.optim.AdamW
    step: int = 0

    @classmethod
    def begin(cls, preset: str, seed: int, steps: int, device: torch.device) -> Self:
        """Step 0. The initial weights are a function of the seed."""
        chosen = PRESETS[preset]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network(chosen.architecture, ENCODERS[chosen.encoder].width)
        network = network.to(device)
        average = deepcopy(network).requires_grad_(requires_grad=False).eval()
        return cls(preset, seed, steps, network, average, _optimiser(network, chosen.recipe))

    def advance(self, examples: Examples, schedule: Schedule) -> float:
        """Do one step and return its loss. Raises `LossNotFinite` before anything is spoilt."""
        recipe = PRESETS[self.preset].recipe
        batch = draw_batch(examples, recipe, len(schedule), self.seed, self.step)
        loss = weighted_v_loss(
            self.network, schedule, batch.to(next(self.network.parameters()).device)
        )
        value = loss.item()
        if not math.isfinite(value):
            raise LossNotFinite(f"step {self.step}")
        self.optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
        if not math.isfinite(norm.item()):
            raise LossNotFinite(f"step {self.step}")
        for group in self.optimiser.param_groups:
            group["lr"] = group["pace"] * learning_rate(recipe, self.step, self.steps)
        self.optimiser.step()
        self._follow(ema_decay(recipe, self.step))
        self.step += 1
        return value

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        """Move the average: a <- decay a + (1 - decay) p."""
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for a, p in pairs:
            a.lerp_(p, 1.0 - decay)


def _optimiser(network: Network, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW in two groups of parameters, each with its `pace`, a factor of the learning rate."""
    pathway = network.pathway()
    eager = {id(p) for p in pathway}
    rest = [p for p in network.parameters() if id(p) not in eager]
    groups = [{"params": rest, "pace": 1.0}, {"params": pathway, "pace": recipe.boost}]
    return torch.optim.AdamW(groups, betas=recipe.betas, weight_decay=recipe.weight_decay)
