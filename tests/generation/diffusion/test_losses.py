"""The hybrid loss against torch's own distributions and what it must teach."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from services.generation.diffusion.losses import Batch, clean_image, hybrid, variational_bound
from services.generation.diffusion.schedule import PUBLISHED, SCHEDULES

SCHEDULE = SCHEDULES[PUBLISHED]()


def a_batch(*times: int) -> Batch:
    rng = torch.Generator().manual_seed(0)
    shape = len(times), 1, 4, 4
    x_0 = torch.rand(shape, generator=rng) * 2 - 1
    eps = torch.randn(shape, generator=rng)
    none = torch.zeros(len(times), 0)
    return Batch(x_0, eps, torch.tensor(times), none, torch.zeros(len(times), dtype=torch.bool))


def noised(batch: Batch) -> torch.Tensor:
    alpha, sigma = (
        torch.tensor(table, dtype=torch.float32)[batch.t, None, None, None]
        for table in (SCHEDULE.alpha, SCHEDULE.sigma)
    )
    return alpha * batch.x_0 + sigma * batch.eps


def one_step_back(t: int, x_0: torch.Tensor, x_t: torch.Tensor, share: float) -> Normal:
    """q(x_{t-1} | x_t, x_0) by Bayes: two Gaussians about x_{t-1}, multiplied. In float64."""
    before, now = float(SCHEDULE.alpha_bar[t - 1]), float(SCHEDULE.alpha_bar[t])
    keep = now / before  # alpha_t of Ho et al.
    beta = 1.0 - keep
    precision = 1.0 / (1.0 - before) + keep / beta
    mean = (math.sqrt(before) * x_0 / (1.0 - before) + math.sqrt(keep) * x_t / beta) / precision
    log_variance = share * math.log(beta) - (1.0 - share) * math.log(precision)
    return Normal(mean, torch.full_like(mean, math.exp(log_variance / 2)))


@pytest.mark.parametrize("t", [1, 2, 500, 998, 999])
def test_the_bound_is_the_divergence_of_two_gaussians(t: int) -> None:
    batch = a_batch(t)
    x_t, guess = noised(batch), batch.x_0 * 0.8 + 0.05
    share = 0.3
    bound = variational_bound(
        SCHEDULE, batch, x_t, guess, torch.full_like(guess, 2.0 * share - 1.0)
    )
    x_0, x_t, guess = (x.double() for x in (batch.x_0, x_t, guess))
    expected = kl_divergence(
        one_step_back(t, x_0, x_t, 0.0), one_step_back(t, guess, x_t, share)
    ) / math.log(2.0)
    torch.testing.assert_close(bound.double(), expected, rtol=2e-3, atol=1e-6)


def test_the_last_step_is_paid_in_grey_levels() -> None:
    """Exactly on the grey level, with a narrow Gaussian: nearly certain, nearly 0 bits."""
    batch = a_batch(0)
    batch = Batch(batch.x_0.round(), *batch._parts()[1:])  # white, black and mid grey
    x_t = noised(batch)
    sure = variational_bound(SCHEDULE, batch, x_t, batch.x_0, -torch.ones_like(x_t))
    wrong = variational_bound(SCHEDULE, batch, x_t, -batch.x_0 + 0.5, -torch.ones_like(x_t))
    assert (sure >= 0).all()
    assert wrong.mean() > sure.mean() + 5
    assert wrong.isfinite().all()


def test_the_bound_teaches_the_variance_and_nothing_else() -> None:
    """As the published training: stop-gradient on the mean."""
    batch = a_batch(0, 3, 400, 999)
    v_hat = torch.zeros_like(batch.x_0, requires_grad=True)
    range_hat = torch.zeros_like(batch.x_0, requires_grad=True)
    loss = hybrid(lambda *_: torch.cat([v_hat, range_hat], dim=1), SCHEDULE, batch)
    loss.backward()
    alpha, sigma = (
        torch.tensor(table, dtype=torch.float32)[batch.t, None, None, None]
        for table in (SCHEDULE.alpha, SCHEDULE.sigma)
    )
    v = alpha * batch.eps - sigma * batch.x_0
    torch.testing.assert_close(v_hat.grad, -2.0 * v / v.numel())  # of the mean square alone
    assert (range_hat.grad != 0).any(dim=(1, 2, 3)).all()
    assert loss.isfinite()


def test_the_best_variance_lies_between_its_bounds() -> None:
    """With a perfect guess the least variance is best; the worse the guess, the more of it."""
    batch = a_batch(*[200] * 8)
    x_t = noised(batch)

    def best(error: float) -> int:
        guess = batch.x_0 + error
        costs = [
            variational_bound(SCHEDULE, batch, x_t, guess, torch.full_like(x_t, r)).mean().item()
            for r in (-1.0, -0.5, 0.0, 0.5, 1.0)
        ]
        return costs.index(min(costs))

    assert best(0.0) == 0
    assert best(1.0) == 4


def test_only_the_first_channel_is_a_picture() -> None:
    batch = a_batch(100, 700)
    two = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    one = clean_image(lambda *_: two[:, :1], SCHEDULE, batch)
    assert torch.equal(clean_image(lambda *_: two, SCHEDULE, batch), one)
