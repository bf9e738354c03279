"""The optimiser Lion (Chen et al. 2023, arXiv 2302.06675, algorithm 2)."""

from collections.abc import Callable, Iterable
from typing import Any

import torch


class Lion(torch.optim.Optimizer):
    """Moves every weight by the same amount: the sign of momentum decides where to.

    u = sign(beta_1 m + (1 - beta_1) g),  theta <- theta - eta (u + lambda theta),
    m <- beta_2 m + (1 - beta_2) g

    Its step is as long as its learning rate, so that wants to be three to ten times smaller than
    AdamW's, and the weight decay as many times larger.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

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
