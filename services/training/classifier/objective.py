"""The training loss."""

import torch
from torch import Tensor
from torch.nn import functional

from services.training.ports.engine import UNKNOWN


def masked_bce(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean binary cross-entropy over the known targets; 0 (with a gradient of 0) if none is.

    `logits` (B, L); `targets` (B, L) of 1, 0 or `UNKNOWN`; `smoothing` s pulls targets to
    s/2 and 1 - s/2.
    """
    known = targets != UNKNOWN
    wanted = targets.clamp(min=0).to(logits.dtype) * (1.0 - smoothing) + 0.5 * smoothing
    losses = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)
