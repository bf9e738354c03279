"""An exponential moving average of weights, warmed up so that short runs are not held back."""

from collections.abc import Sequence

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

DECAY = 0.999


def decay_at(step: int) -> float:
    """min(DECAY, (1 + t) / (10 + t)): the average's horizon grows with the run."""
    return min(DECAY, (1 + step) / (10 + step))


def move(average: Sequence[Tensor], weights: Sequence[Tensor], step: int) -> None:
    """Take average <- d average + (1 - d) weights, in place."""
    blend = get_ema_multi_avg_fn(decay_at(step))
    blend(tuple(average), tuple(weights), None)
