"""What a training minimises: functions of a network's output, no optimiser, no device."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from services.generation.diffusion.schedule import Schedule

Predict = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""The network: x_t, t, c and `dropped` to (B, outputs, H, W), the prediction of v first."""

BIN = 1.0 / 255.0
"""Half a grey level, of pixels in [-1, 1]."""
LEAST = 1e-12
"""The least probability that is told apart from none."""


@dataclass(frozen=True)
class Batch:
    x_0: torch.Tensor  # (B, 1, H, W) in [-1, 1]
    eps: torch.Tensor  # (B, 1, H, W)
    t: torch.Tensor  # (B,)
    c: torch.Tensor  # (B, D)
    dropped: torch.Tensor  # (B,) bool: the whole condition is hidden

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, rows: slice) -> "Batch":
        return Batch(*(x[rows] for x in self._parts()))

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(x.to(device) for x in self._parts()))

    def _parts(self) -> tuple[torch.Tensor, ...]:
        return self.x_0, self.eps, self.t, self.c, self.dropped


def clean_image(predict: Predict, schedule: Schedule, batch: Batch) -> torch.Tensor:
    """Mean of sigma_t^2 |v - v_hat|^2 = |x_0 - x_0_hat|^2, v = alpha_t eps - sigma_t x_0.

    Salimans and Ho 2022. Unweighted, nearly clean steps, where only the grain of the picture is
    left to learn, take most of the loss; what a condition decides is decided in the noise.
    """
    alpha, sigma = _tables(batch.t, schedule.alpha, schedule.sigma)
    x_t = alpha * batch.x_0 + sigma * batch.eps
    v = alpha * batch.eps - sigma * batch.x_0
    v_hat = predict(x_t, batch.t, batch.c, batch.dropped)[:, :1]
    return torch.mean(sigma**2 * (v - v_hat) ** 2)


def hybrid(predict: Predict, schedule: Schedule, batch: Batch) -> torch.Tensor:
    """L_simple + lambda L_vlb, lambda = 1 / T (Nichol and Dhariwal 2021, eq. 16), as published.

    L_simple is the mean of |v - v_hat|^2. The bound, in bits a pixel, teaches the variance alone:
    it sees v_hat, but sends no gradient there.
    """
    alpha, sigma = _tables(batch.t, schedule.alpha, schedule.sigma)
    x_t = alpha * batch.x_0 + sigma * batch.eps
    v = alpha * batch.eps - sigma * batch.x_0
    v_hat, range_hat = predict(x_t, batch.t, batch.c, batch.dropped).chunk(2, dim=1)
    x_0_hat = alpha * x_t - sigma * v_hat.detach()
    bound = variational_bound(schedule, batch, x_t, x_0_hat, range_hat)
    return torch.mean((v - v_hat) ** 2) + torch.mean(bound)


def variational_bound(
    schedule: Schedule,
    batch: Batch,
    x_t: torch.Tensor,
    x_0_hat: torch.Tensor,
    range_hat: torch.Tensor,
) -> torch.Tensor:
    """L_t of each pixel in bits: KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) for t > 0.

    At t = 0 it is minus the logarithm of what p gives to the pixel's grey level (Ho et al. 2020,
    eq. 13). `range_hat` in [-1, 1] goes from the least variance to the most.
    """
    known = schedule.posterior
    of_x_0, of_x_t, least, most = _tables(
        batch.t, known.of_x_0, known.of_x_t, known.log_least, known.log_most
    )
    share = (range_hat + 1.0) / 2.0
    log_variance = share * most + (1.0 - share) * least
    apart = of_x_0 * (batch.x_0 - x_0_hat)  # of the means
    kl = 0.5 * (
        log_variance
        - least
        - 1.0
        + torch.exp(least - log_variance)
        + apart**2 * torch.exp(-log_variance)
    )
    mean = of_x_0 * x_0_hat + of_x_t * x_t
    nll = -_log_likelihood(batch.x_0, mean, torch.exp(0.5 * log_variance))
    return torch.where(batch.t[:, None, None, None] == 0, nll, kl) / math.log(2.0)


def _log_likelihood(x: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Of the grey level of x; the darkest and the brightest take all that lies beyond."""
    above = torch.special.ndtr((x + BIN - mean) / std).masked_fill(x > 1.0 - BIN, 1.0)
    below = torch.special.ndtr((x - BIN - mean) / std).masked_fill(x < BIN - 1.0, 0.0)
    return torch.log((above - below).clamp(min=LEAST))


def _tables(t: torch.Tensor, *tables: np.ndarray) -> torch.Tensor:
    """The tables at t, each of shape (B, 1, 1, 1)."""
    stacked = torch.tensor(np.stack(tables), dtype=torch.float32, device=t.device)
    return stacked[:, t, None, None, None]


LOSSES: Final[dict[str, Callable[[Predict, Schedule, Batch], torch.Tensor]]] = {
    "clean-image": clean_image,
    "hybrid": hybrid,
}
