"""The pictures of the shard that this worker will probably claim next, prepared before it does.

Between two shards a worker stores the last images, commits and claims; its decoders would wait
for that. A wrong guess costs the decoding of a shard and nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from services.datasets.importers.source import Picture, Unreadable

Pictures = Iterator[Picture | Unreadable]


class Shard(NamedTuple):
    """Some samples of a dataset, by the ordinal of the first, and where their pictures are."""

    dataset: UUID
    first: int
    places: Sequence[str]


class ReadAhead:
    """Of one worker, which works on one shard at a time.

    Alone on a job it claims every shard, beside others every second or third: it guesses once
    the distance between its shards has been the same twice.
    """

    def __init__(self) -> None:
        self._begun: tuple[Shard, Pictures] | None = None
        self._claimed: list[tuple[UUID, int]] = []

    def take(self, shard: Shard, begin: Callable[[], Pictures]) -> Pictures:
        """The shard's pictures: those that were begun for it, else anew."""
        begun, self._begun = self._begun, None
        self._claimed = [*self._claimed[-2:], (shard.dataset, shard.first)]
        return begun[1] if begun is not None and begun[0] == shard else begin()

    def next_first(self) -> int | None:
        """Where the next shard probably begins; None if nothing speaks for any."""
        if len(self._claimed) < 3 or len({dataset for dataset, _ in self._claimed}) > 1:  # noqa: PLR2004
            return None
        first, second, third = (ordinal for _, ordinal in self._claimed)
        step = third - second
        return third + step if step == second - first > 0 else None

    def begin(self, shard: Shard, pictures: Pictures) -> None:
        self._begun = (shard, pictures)
