"""Which images make the batch of a step: a function of (seed, step) alone, so that a resumed run
needs to remember nothing but its step.
"""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from services.training.ports.engine import Part, Pixels, StageSpec

T = TypeVar("T")


@lru_cache(maxsize=4)
def _permutation(seed: int, stage: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, stage, epoch]).permutation(count)


def draw(seed: int, stage: int, step: int, count: int, batch_size: int) -> NDArray[np.int64]:
    """Positions of a step's images among the `count` of its stage, (batch_size,).

    The steps of a stage read one endless sequence of shuffled epochs, so every image is seen
    equally often and no batch is short; a stage smaller than a batch spans several epochs.
    """
    start = step * batch_size
    positions = np.arange(start, start + batch_size)
    epochs = positions // count
    return np.concatenate(
        [
            _permutation(seed, stage, int(epoch), count)[positions[epochs == epoch] % count]
            for epoch in np.unique(epochs)
        ]
    )


def ahead(gather: Callable[[int], T], first: int, steps: int) -> Generator[T]:
    """What `gather` gives for the steps from `first` on; the next one's is gathered in a thread
    while the caller is at work on this one's.
    """
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(gather, first)
        for step in range(first, steps):
            batch = coming.result()
            if step + 1 < steps:
                coming = pool.submit(gather, step + 1)
            yield batch


class StageData:
    """The union of a stage's parts, gathered by position."""

    def __init__(self, spec: StageSpec) -> None:
        self._parts = spec.parts
        self._starts = np.cumsum([0, *(len(part.rows) for part in spec.parts)])
        self.targets = np.concatenate([part.targets for part in spec.parts])  # (n, L)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def pixels(self, positions: NDArray[np.int64]) -> Pixels:
        """The images at `positions`, (b, H, W), copied out of the packed sources."""
        owners = np.searchsorted(self._starts, positions, side="right") - 1
        gathered = np.empty((len(positions), *self._parts[0].images.shape[1:]), np.uint8)
        for number, part in enumerate(self._parts):
            mine = owners == number
            gathered[mine] = take(part, positions[mine] - self._starts[number])
        return gathered


def take(part: Part, positions: NDArray[np.int64]) -> Pixels:
    return part.images[part.rows[positions]]
