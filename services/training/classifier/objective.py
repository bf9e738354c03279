"""The training loss."""

import torch
from torch import Tensor
from torch.nn import functional

from services.training.classifier.mixing import Mixed
from services.training.ports.engine import UNKNOWN


def masked_bce(
    logits: Tensor,
    targets: Tensor,
    smoothing: float = 0.0,
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Mean binary cross-entropy over the known targets; 0 (with a gradient of 0) if none is.

    `logits` (B, L); `targets` (B, L) of 1, 0 or `UNKNOWN`; `smoothing` s pulls targets to
    s/2 and 1 - s/2; `positive_weights` (L,) multiply what a positive costs.
    """
    known = targets != UNKNOWN
    wanted = targets.clamp(min=0).to(logits.dtype) * (1.0 - smoothing) + 0.5 * smoothing
    losses = functional.binary_cross_entropy_with_logits(
        logits, wanted, reduction="none", pos_weight=positive_weights
    )
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)


def mixed_bce(
    logits: Tensor,
    targets: Tensor,
    mixed: Mixed | None,
    smoothing: float = 0.0,
    positive_weights: Tensor | None = None,
) -> Tensor:
    """`masked_bce` to each image's own targets and to its partner's, by their shares.

    What is unknown of either says nothing; it is not taken from the other.
    """

    def loss(told: Tensor) -> Tensor:
        return masked_bce(logits, told, smoothing, positive_weights)

    if mixed is None:
        return loss(targets)
    return mixed.share * loss(targets) + (1.0 - mixed.share) * loss(targets[mixed.partner])
