"""The likest picture to each of many, among many more. Exact: every pair is compared.

First by descriptors: both mirror images of a query against all 81 moves of a picture, as products
of matrices, in blocks, so that memory stays bounded however large the sets are. The likest few are
then aligned with the query.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Self

import numpy as np
from numpy.typing import NDArray

from services.copies.alignment import aligned
from services.copies.pictures import (
    DESCRIPTOR,
    PATCH,
    VARIANTS,
    Floats,
    Pictures,
    descriptors,
    mirrored,
    patches,
    variants,
)

BLOCK = 64
"""Pictures whose moves are in memory at once."""
TILE = 128
"""Queries that one product takes: what it gives is looked through while it is in the cache."""
CANDIDATES = 16
PAIRS, AHEAD = 256, 64
"""Pairs that are aligned at once, and how many such batches are handed out at a time."""
NEVER = np.float32(-1.0)

Places = NDArray[np.int64]
Apart = NDArray[np.bool_]
FLOPS_A_PAIR = 2 * len(VARIANTS) * 2 * DESCRIPTOR


@dataclass(frozen=True)
class Queries:
    """Patches of pictures that are looked for, (Q, 1024)."""

    patch: NDArray[np.float16]

    @classmethod
    def of(cls, parts: Iterable[Pictures]) -> Self:
        """`parts` are some pictures each, in order."""
        found = [patches(part).astype(np.float16) for part in parts if len(part)]
        return cls(np.concatenate(found) if found else np.empty((0, PATCH * PATCH), np.float16))

    def __len__(self) -> int:
        return len(self.patch)


@dataclass(frozen=True)
class Nearest:
    """For every query, how like the likest picture is, and its place; -1 where there is none."""

    likeness: Floats
    place: Places


def search(
    queries: Queries,
    pictures: Pictures,
    apart: Callable[[int, int], Apart | None] = lambda _first, _last: None,
    between: Callable[[int], None] = lambda _done: None,
) -> Nearest:
    """The likest of `pictures` (N, 80, 80), which may lie on a disk, to each query.

    `apart(first, last)` tells which of the pictures first..last must not be the answer to which
    query, (Q, last - first). `between` hears how many pictures were compared, and may raise.
    """
    patch = queries.patch.astype(np.float32)
    both = np.stack([descriptors(patch), descriptors(mirrored(patch))], axis=1)  # (Q, 2, 144)
    score = np.full((len(patch), CANDIDATES), NEVER)
    place = np.full((len(patch), CANDIDATES), -1, np.int64)
    for first in range(0, len(pictures), BLOCK):
        block = np.asarray(pictures[first : first + BLOCK])
        like = likeness(both, variants(block))
        excluded = apart(first, first + len(block))
        if excluded is not None:
            like[excluded] = NEVER
        _keep_likest(score, place, like, first)
        between(first + len(block))
    return _refined(patch, both, pictures, place)


def likeness(queries: Floats, index: Floats) -> Floats:
    """(Q, N): how like each picture of `index` (144, 81, N) is to each query (Q, 2, 144)."""
    D, _, N = index.shape
    columns = index.reshape(D, -1)
    like = np.empty((len(queries), N), np.float32)
    for first in range(0, len(queries), TILE):
        tile = queries[first : first + TILE]
        product = tile.reshape(-1, D) @ columns
        like[first : first + TILE] = _highest(product.reshape(len(tile), -1, N))
    return like


def _highest(product: Floats) -> Floats:
    """(Q, M, N) -> (Q, N), and `product` is spent. Halving takes long runs of memory at once, and
    a third of the time of `max(axis=1)`.
    """
    left = product.shape[1]
    while left > 1:
        half = left // 2
        np.maximum(product[:, :half], product[:, left - half : left], out=product[:, :half])
        left -= half
    return product[:, 0]


def _keep_likest(score: Floats, place: Places, like: Floats, first: int) -> None:
    """Let the likest of a block into the candidates so far, in place."""
    rows = np.flatnonzero(like.max(axis=1) > score.min(axis=1))
    if not len(rows):
        return
    new = np.broadcast_to(np.arange(first, first + like.shape[1]), (len(rows), like.shape[1]))
    scores = np.concatenate([score[rows], like[rows]], axis=1)
    places = np.concatenate([place[rows], np.where(like[rows] > NEVER, new, -1)], axis=1)
    best = np.argpartition(-scores, CANDIDATES - 1, axis=1)[:, :CANDIDATES]
    score[rows] = np.take_along_axis(scores, best, axis=1)
    place[rows] = np.take_along_axis(places, best, axis=1)


def _refined(patch: Floats, both: Floats, pictures: Pictures, place: Places) -> Nearest:
    """The candidates aligned; of equals the first picture."""
    like = np.full(len(patch), NEVER)
    where = np.full(len(patch), -1, np.int64)

    def told(pairs: tuple[Places, Places]) -> tuple[Places, Places, Floats]:
        return (*pairs, _aligned(patch, both, pictures, *pairs))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        batches = _by_picture(place)
        while parts := list(islice(batches, AHEAD)):
            for query, candidate, found in pool.map(told, parts):
                for q, p, value in zip(query, candidate, found, strict=True):
                    if value > like[q]:
                        like[q], where[q] = value, p
    return Nearest(np.minimum(like, np.float32(1.0)), where)


def _aligned(
    patch: Floats, both: Floats, pictures: Pictures, query: Places, candidate: Places
) -> Floats:
    """(P,): the likeness of pairs, looked for from the move that fits best."""
    own, at = np.unique(candidate, return_inverse=True)
    near = np.asarray(pictures[own])
    index = np.ascontiguousarray(variants(near).transpose(2, 0, 1))  # (N, 144, 81)
    best = (both[query] @ index[at]).reshape(len(query), -1).argmax(axis=1)
    mirror, move = np.divmod(best, len(VARIANTS))
    asked = np.where(mirror[:, None] == 1, mirrored(patch[query]), patch[query])
    return aligned(asked, near[at], VARIANTS[move])


def _by_picture(place: Places) -> Iterator[tuple[Places, Places]]:
    """All pairs of query and candidate, some at once, those of a picture together."""
    query, slot = np.nonzero(place >= 0)
    candidate = place[query, slot]
    order = np.lexsort((query, candidate))
    for first in range(0, len(order), PAIRS):
        part = order[first : first + PAIRS]
        yield query[part], candidate[part]
