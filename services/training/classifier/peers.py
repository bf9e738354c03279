"""The processes that train one classifier together, as one of them sees them."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Peers(Protocol):
    """Of them, it is number `rank` of `world`."""

    rank: int
    world: int

    def total(self, value: Tensor) -> Tensor:
        """The sum of what everybody has."""
        ...

    def agree(self, stop: bool) -> bool:
        """What number 0 says, for all."""
        ...


class Alone:
    """Nobody else."""

    rank, world = 0, 1

    def total(self, value: Tensor) -> Tensor:
        return value

    def agree(self, stop: bool) -> bool:
        return stop


def share(peers: Peers, weights: Sequence[Tensor]) -> None:
    """Make every gradient the sum of everybody's, all in one message."""
    if peers.world == 1:
        return
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    whole = peers.total(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = whole.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
