"""An exponential moving average of weights, warmed up so that short runs are not held back."""

from collections.abc import Sequence

import torch
from torch import Tensor

DECAY = 0.999


def decay_at(step: int) -> float:
    """min(DECAY, (1 + t) / (10 + t)): the average's horizon grows with the run."""
    return min(DECAY, (1 + step) / (10 + step))


@torch.no_grad()
def move(average: Sequence[Tensor], weights: Sequence[Tensor], step: int) -> None:
    """Take average <- d average + (1 - d) weights, in place."""
    torch._foreach_lerp_(list(average), list(weights), 1.0 - decay_at(step))
