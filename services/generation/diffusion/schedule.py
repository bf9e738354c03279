"""The noise schedule as float64 tables: x_t = alpha_t x_0 + sigma_t eps, t = 0 (clean) .. T-1."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

TIMESTEPS = 1000
Table = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """A variance-preserving schedule, given by alpha_bar_t = alpha_t^2 for t < T."""

    alpha_bar: Table

    def __len__(self) -> int:
        return len(self.alpha_bar)

    @cached_property
    def alpha(self) -> Table:
        return np.sqrt(self.alpha_bar)

    @cached_property
    def sigma(self) -> Table:
        return np.sqrt(1.0 - self.alpha_bar)

    def at(self, t: int | None) -> tuple[float, float]:
        """alpha_t and sigma_t; `None` is the end of sampling, the clean image."""
        return (1.0, 0.0) if t is None else (float(self.alpha[t]), float(self.sigma[t]))

    @cached_property
    def posterior(self) -> "Posterior":
        """Of q(x_{t-1} | x_t, x_0), Ho et al. 2020, eq. 6 and 7."""
        before = np.append(1.0, self.alpha_bar[:-1])
        beta = 1.0 - self.alpha_bar / before
        variance = beta * (1.0 - before) / (1.0 - self.alpha_bar)
        variance[0] = variance[1]  # nothing is left unknown at t = 0: no logarithm of that
        return Posterior(
            of_x_0=np.sqrt(before) * beta / (1.0 - self.alpha_bar),
            of_x_t=np.sqrt(1.0 - beta) * (1.0 - before) / (1.0 - self.alpha_bar),
            log_least=np.log(variance),
            log_most=np.log(beta),
        )

    def log_snr(self, t: int | None) -> float:
        """lambda_t = log(alpha_t / sigma_t), half the log signal-to-noise ratio.

        Minus infinity where no signal is left, plus infinity for the clean image.
        """
        alpha, sigma = self.at(t)
        if sigma == 0.0:
            return math.inf
        return math.log(alpha / sigma) if alpha > 0.0 else -math.inf


@dataclass(frozen=True)
class Posterior:
    """Tables by t: the mean of x_{t-1} is `of_x_0` x_0 + `of_x_t` x_t.

    `log_least` and `log_most` bound the logarithm of its variance: the one of a known x_0, and
    beta_t (Nichol and Dhariwal 2021, eq. 15).
    """

    of_x_0: Table
    of_x_t: Table
    log_least: Table
    log_most: Table


def cosine(timesteps: int = TIMESTEPS, s: float = 0.008, beta_max: float = 0.999) -> Table:
    """alpha_bar of Nichol and Dhariwal 2021, eq. 17, with beta_t clipped at `beta_max`."""
    u = np.arange(timesteps + 1, dtype=np.float64) / timesteps
    f = np.cos((u + s) / (1.0 + s) * math.pi / 2.0) ** 2
    alpha = 1.0 - np.minimum(1.0 - f[1:] / f[:-1], beta_max)
    return np.cumprod(alpha, dtype=np.float64)


def zero_terminal_snr(alpha_bar: Table) -> Table:
    """Shift and scale sqrt(alpha_bar) so that the last step is pure noise.

    Lin et al. 2023, algorithm 1; the first value is kept. Without this the last training step
    still shows the mean brightness, which sampling from pure noise then lacks.
    """
    root = np.sqrt(alpha_bar)
    first, last = root[0], root[-1]
    return ((root - last) * first / (first - last)) ** 2


PUBLISHED = "cosine-zsnr-1000"

SCHEDULES: Final[dict[str, Callable[[], Schedule]]] = {
    PUBLISHED: lambda: Schedule(zero_terminal_snr(cosine()))
}
"""By name; the published one has T = 1000, s = 0.008 and zero-terminal SNR."""
