"""Pictures that occur twice: the same pixels, or nearly the same picture.

Nearly means descriptors (`images.descriptor`) that differ in few of their 256 bits: the same
picture rescaled, recompressed or a little brightened. A shift, a turn or a crop by more than a
few pixels is not found: this is a look at a source's order, not a search for hidden copies.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NEAR_BITS = 12
BANDS = NEAR_BITS + 1
"""Of so many bands of bits, two descriptors that differ in `NEAR_BITS` share at least one."""
BITS = 256
MOST_NEIGHBOURS = 2_000
"""So many others of its band is a picture compared with; more alike pictures are not a dataset."""
MOST_PAIRS = 100_000

Bits = npt.NDArray[np.uint8]
Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """Two pictures by their places in the sequence, the earlier first."""

    first: int
    other: int
    identical: bool
    distance: int


def find(digests: Sequence[str], descriptors: Sequence[bytes]) -> list[Pair]:
    """Identical pictures, each paired with the first of its kind, then near ones of those."""
    first: dict[str, int] = {}
    identical: list[Pair] = []
    for place, digest in enumerate(digests):
        earlier = first.setdefault(digest, place)
        if earlier != place:
            identical.append(Pair(earlier, place, identical=True, distance=0))
    kept = np.fromiter(first.values(), np.int64)
    words = np.frombuffer(b"".join(descriptors[i] for i in kept), np.uint64).reshape(-1, 4)
    near = [
        Pair(int(kept[i]), int(kept[j]), identical=False, distance=d) for i, j, d in _near(words)
    ]
    return identical + near


def _near(words: npt.NDArray[np.uint64]) -> Iterator[tuple[int, int, int]]:
    """Pairs of rows (N, 4 x 64 bits) at most `NEAR_BITS` apart, with their distance, in order."""
    found: dict[tuple[int, int], int] = {}
    bits = np.unpackbits(words.view(np.uint8), axis=1)
    # Bits of one place are alike in all radiographs: each band gets some from everywhere.
    order = np.random.default_rng(0).permutation(BITS)
    for band in np.array_split(order, BANDS):
        keys = np.packbits(bits[:, band], axis=1)
        for i, j, distance in _neighbours(keys, words):
            found[min(i, j), max(i, j)] = distance
            if len(found) >= MOST_PAIRS:
                break
    for (i, j), distance in sorted(found.items()):
        yield i, j, distance


def _neighbours(keys: Bits, words: npt.NDArray[np.uint64]) -> Iterator[tuple[int, int, int]]:
    """Near pairs among rows of equal key: each is compared with the next, then the one after."""
    order = np.lexsort(keys.T)
    keys, words = keys[order], words[order]
    rows = np.arange(len(order))
    for step in range(1, MOST_NEIGHBOURS):
        rows = rows[rows + step < len(order)]
        rows = rows[(keys[rows] == keys[rows + step]).all(axis=1)]
        if not rows.size:
            return
        apart = np.bitwise_count(words[rows] ^ words[rows + step]).sum(axis=1)
        for row in rows[apart <= NEAR_BITS]:
            distance = np.bitwise_count(words[row] ^ words[row + step]).sum()
            yield int(order[row]), int(order[row + step]), int(distance)
