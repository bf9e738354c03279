"""The optimiser against the published rule, written out in numpy."""

import numpy as np
import pytest
import torch

from services.crew.lion import Lion


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_as_published(decay: float) -> None:
    rng = np.random.default_rng(0)
    theta, gradients = rng.normal(size=50), rng.normal(size=(20, 50))
    weights = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    optimiser = Lion([{"params": [weights]}], lr=0.01, betas=(0.9, 0.99), weight_decay=decay)
    m = np.zeros(50)
    for g in gradients:
        weights.grad = torch.from_numpy(g)
        optimiser.step()
        c = 0.9 * m + 0.1 * g
        theta = theta - 0.01 * (np.sign(c) + decay * theta)
        m = 0.99 * m + 0.01 * g
        np.testing.assert_allclose(weights.detach().numpy(), theta, rtol=1e-12)


def test_what_has_no_gradient_stays() -> None:
    moved, still = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimiser = Lion([{"params": [moved, still]}], lr=0.1, weight_decay=0.5)
    moved.grad = torch.ones(3)
    optimiser.step()
    assert torch.equal(still, torch.ones(3))
    torch.testing.assert_close(moved.detach(), torch.full((3,), 1.0 - 0.1 * (1.0 + 0.5)))
