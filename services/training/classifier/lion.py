"""The optimiser Lion (Chen et al. 2023, arXiv 2302.06675, algorithm 2)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch


class Lion(torch.optim.Optimizer):
    """Moves every weight by the same amount: the sign of momentum decides where to.

    u = sign(beta_1 m + (1 - beta_1) g),  theta <- theta - eta (u + lambda theta),
    m <- beta_2 m + (1 - beta_2) g
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], betas: tuple[float, float], lr: float = 1e-4
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update of all weights that have a gradient; there is no `closure` here."""
        assert closure is None  # noqa: S101 - part of torch's signature only
        for group in self.param_groups:
            eta, (beta_1, beta_2) = group["lr"], group["betas"]
            for theta in group["params"]:
                if theta.grad is None:
                    continue
                state = self.state[theta]
                if not state:
                    state["exp_avg"] = torch.zeros_like(theta)
                m = state["exp_avg"]
                u = m.lerp(theta.grad, 1.0 - beta_1).sign_()
                theta.mul_(1.0 - eta * group["weight_decay"]).add_(u, alpha=-eta)
                m.lerp_(theta.grad, 1.0 - beta_2)
