"""An exponential moving average of weights, warmed up so that short runs are not held back."""

from collections.abc import Sequence

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


def decay_at(step: int, decay: float) -> float:
    """min(decay, (1 + t) / (10 + t)): the average's horizon grows with the run."""
    return min(decay, (1 + step) / (10 + step))


def move(average: Sequence[Tensor], weights: Sequence[Tensor], decay: float) -> None:
    """Take average <- d average + (1 - d) weights, in place."""
    blend = get_ema_multi_avg_fn(decay)
    blend(tuple(average), tuple(weights), None)
