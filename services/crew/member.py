"""A process of a crew: how it hears of its parent and shares with the others."""

import os
import sys
import threading
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from services.crew.starting import STOP


class Member:
    """One process among others, by accelerate."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.rank: int = accelerator.process_index
        self.world: int = accelerator.num_processes

    def mean(self, value: torch.Tensor) -> float:
        return cast("torch.Tensor", self._accelerator.reduce(value, "mean")).item()

    def total(self, value: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", self._accelerator.reduce(value, "sum"))

    def agree(self, stop: bool) -> bool:
        """What number 0 says, for all."""
        flag = torch.tensor([int(stop)], device=self.device)
        return bool(cast("torch.Tensor", broadcast(flag)).item())

    def text(self, own: str) -> str:
        """What number 0 has, for all."""
        raw = torch.tensor(list(own.encode()), dtype=torch.uint8, device=self.device)
        size = cast("torch.Tensor", broadcast(torch.tensor([len(raw)], device=self.device)))
        raw = raw if self.rank == 0 else torch.zeros(int(size), dtype=torch.uint8).to(self.device)
        return bytes(cast("torch.Tensor", broadcast(raw)).tolist()).decode()


class Ear:
    """Hears the parent: it may ask to stop, and when it is gone so is this process."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            if line.strip() == STOP:
                self.stop.set()
        os._exit(1)  # whatever the others are waiting for
