"""What the network knows of v before it has learnt anything."""

from dataclasses import replace

import pytest
import torch

from services.generation.diffusion.network import Network
from services.generation.diffusion.presets import PRESETS

TINY = PRESETS["tiny-32"].architecture


def test_grain_one_is_plain_v_prediction() -> None:
    known, scale = Network(replace(TINY, grain=1.0), 4).linear(torch.tensor([0, 500, 999]))
    torch.testing.assert_close(known, torch.zeros(3, 1, 1, 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(scale, torch.ones(3, 1, 1, 1))


@pytest.mark.parametrize("t", [50, 400, 800])
def test_the_linear_part_is_the_best_one_for_independent_pixels(t: int) -> None:
    """Against least squares on a million Gaussian pixels, and the residual's own scale."""
    s = 0.3
    network = Network(replace(TINY, grain=s), 4)
    alpha, sigma = network.alpha[t], network.sigma[t]
    generator = torch.Generator().manual_seed(t)
    x_0 = s * torch.randn(1_000_000, generator=generator)
    eps = torch.randn(1_000_000, generator=generator)
    x, v = alpha * x_0 + sigma * eps, alpha * eps - sigma * x_0
    known, scale = network.linear(torch.tensor([t]))
    assert known.item() == pytest.approx((x @ v / (x @ x)).item(), abs=0.01)
    residual = (v - known.flatten() * x).std().item()
    assert residual == pytest.approx(s * scale.item(), rel=0.02)
