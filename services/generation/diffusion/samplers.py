"""From noise to image: one function a sampler, each a page of its paper.

A sampler sees a denoiser x_0 = D(x_t, t) and a schedule. It knows no network, condition or
guidance, and adds no randomness: the starting noise alone decides the image.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np
import torch

from services.generation.diffusion.schedule import Schedule

Denoise = Callable[[torch.Tensor, int], torch.Tensor]
"""D(x_t, t): the clean image (N, 1, H, W), already clipped to [-1, 1], expected behind x_t."""

Spacing = Callable[[Schedule, int], list[int]]
"""The timesteps of so many steps, descending."""

FIRST, LAST = 985, 3
"""The ends of `even_in_log_snr`, of T = 1000: lambda from -3.7 to 4.3.

Beyond them lambda runs away: a stride more there costs one in the middle, where images are made.
"""

Solve = Callable[[Denoise, torch.Tensor, Schedule, int], torch.Tensor]


def leading(timesteps: int, steps: int) -> list[int]:
    """t_i = floor(i T / N), descending to 0; the zero-SNR step T - 1 is never sampled."""
    return [i * timesteps // steps for i in reversed(range(steps))]


def trailing(timesteps: int, steps: int) -> list[int]:
    """From T - 1 down in equal strides, so that sampling starts where training had pure noise."""
    return [int(t) - 1 for t in np.arange(timesteps, 0, -timesteps / steps).round()]


def even_in_log_snr(schedule: Schedule, steps: int) -> list[int]:
    """From T - 1 to `FIRST`, then in equal strides of lambda to `LAST`; each timestep once.

    An error of the solver grows with the stride in lambda. Trailing timesteps take great ones at
    both ends, where lambda changes fastest: their last leads from t = T / steps to the clean image.
    """
    lambdas = np.array([schedule.log_snr(t) for t in range(LAST, FIRST + 1)])
    targets = np.linspace(lambdas[-1], lambdas[0], max(2, steps - 1))[1 - steps :]
    nearest = LAST + np.interp(-targets, -lambdas, np.arange(len(lambdas))).round()
    return _apart([len(schedule) - 1, *(int(t) for t in nearest)])


def _apart(times: list[int]) -> list[int]:
    """The same where they differ; equal ones are moved to the nearest that are free."""
    for i in range(1, len(times)):
        times[i] = max(0, min(times[i], times[i - 1] - 1))
    for i in reversed(range(len(times) - 1)):
        times[i] = max(times[i], times[i + 1] + 1)
    return times


def ddim(denoise: Denoise, x: torch.Tensor, schedule: Schedule, steps: int) -> torch.Tensor:
    """Song et al. 2021, eq. 12 with eta = 0, over leading timesteps (the published sampler).

    eps = (x_t - alpha_t x_0) / sigma_t,  x_s = alpha_s x_0 + sigma_s eps
    """
    for t, s in _strides(leading(len(schedule), steps)):
        alpha_t, sigma_t = schedule.at(t)
        alpha_s, sigma_s = schedule.at(s)
        x_0 = denoise(x, t)
        eps = (x - alpha_t * x_0) / sigma_t
        x = alpha_s * x_0 + sigma_s * eps
    return x


def dpm_solver_pp_2m(
    denoise: Denoise,
    x: torch.Tensor,
    schedule: Schedule,
    steps: int,
    spacing: Spacing = lambda schedule, steps: trailing(len(schedule), steps),
) -> torch.Tensor:
    """DPM-Solver++(2M), Lu et al. 2022, algorithm 2, ending at sigma = 0.

    h = lambda_s - lambda_t,  r = h_before / h,
    D = (1 + 1/2r) x_0 - 1/2r x_0_before,
    x_s = sigma_s / sigma_t x_t - alpha_s (e^-h - 1) D

    The first and the last step have no second order (D = x_0). Nor has the second when the first
    left a step of zero SNR: h_before is infinite there and 1/2r vanishes.
    """
    x_0_before, h_before = torch.zeros_like(x), math.inf
    for t, s in _strides(spacing(schedule, steps)):
        _, sigma_t = schedule.at(t)
        alpha_s, sigma_s = schedule.at(s)
        x_0 = denoise(x, t)
        h = schedule.log_snr(s) - schedule.log_snr(t)
        half_inverse_r = 0.5 * h / h_before if math.isfinite(h) else 0.0
        d = (1.0 + half_inverse_r) * x_0 - half_inverse_r * x_0_before
        x = (sigma_s / sigma_t) * x - alpha_s * math.expm1(-h) * d
        x_0_before, h_before = x_0, h
    return x


def _strides(times: Sequence[int]) -> list[tuple[int, int | None]]:
    """Each timestep with the next one; `None`, the clean image, comes after the last."""
    return [*pairwise(times), (times[-1], None)]


SAMPLERS: Final[dict[tuple[str, str], Solve]] = {
    ("ddim", "leading"): ddim,
    ("dpmsolver++", "trailing"): dpm_solver_pp_2m,
    ("dpmsolver++", "log-snr"): partial(dpm_solver_pp_2m, spacing=even_in_log_snr),
}
"""By the names of a sampler and of its spacing."""
