"""How far apart two sets of features lie: Fréchet distance and kernel distance.

Rows are images, columns are features. Knows nothing of what the features are.
"""

from dataclasses import dataclass

import numpy as np

from services.evaluation.statistics.cases import Bools, Floats, Ints

BLOCKS = 10
FEWEST_A_BLOCK = 4
"""Patients of either set in a block of the kernel distance."""
TWO = 2
"""Patients without whom a part has no pair."""


@dataclass(frozen=True)
class Spread:
    """A value, and the standard error or deviation that the maker of it names."""

    value: float
    error: float | None


def frechet(x: Floats, y: Floats) -> float:
    """The Fréchet distance between Gaussians fitted to x (n, D) and y (m, D): the formula of FID
    (Heusel et al., NeurIPS 2017, equation 6). Biased by n and m: compare at the same only.
    """
    A, B = (np.atleast_2d(np.cov(each, rowvar=False)) for each in (x, y))
    return gaussian_distance(x.mean(axis=0), A, y.mean(axis=0), B)


def gaussian_distance(mu: Floats, A: Floats, nu: Floats, B: Floats) -> float:
    """d^2 = |mu - nu|^2 + tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2.

    A^1/2 B A^1/2 is symmetric, and the roots of its eigenvalues are the singular values of
    A^1/2 B^1/2, so no root of an unsymmetric or nearly singular product is ever taken.
    """
    cross = float(np.linalg.svd(_root(A) @ _root(B), compute_uv=False).sum())
    d = mu - nu
    return max(0.0, float(d @ d + np.trace(A) + np.trace(B) - 2 * cross))


def _root(A: Floats) -> Floats:
    """The symmetric root of a covariance; eigenvalues below zero are rounding."""
    w, V = np.linalg.eigh(A)
    return np.asarray((V * np.sqrt(np.maximum(w, 0.0))) @ V.T)


def kernel_distance(x: Floats, y: Floats, of_x: Ints, of_y: Ints) -> float:
    """KID: the unbiased square of the maximum mean discrepancy under k(a, b) = (a.b / D + 1)^3
    (Bińkowski et al., ICLR 2018). May be negative.

    `of_x`, `of_y` number the patients: pairs within one patient are left out, as an image with
    itself is in the paper, for they are alike whatever the distribution.
    """
    within = (_mean(_kernel(each, each), ~_same(of)) for each, of in ((x, of_x), (y, of_y)))
    return sum(within) - 2 * float(_kernel(x, y).mean())


def kernel_distance_in_blocks(
    x: Floats, y: Floats, of_x: Ints, of_y: Ints, rng: np.random.Generator
) -> tuple[Spread, int]:
    """The mean of KID over disjoint blocks of patients, its standard error (s / sqrt(blocks)), and
    how many blocks there were: `BLOCKS`, or as many as have `FEWEST_A_BLOCK` patients a side.
    """
    fewest = min(len(np.unique(of_x)), len(np.unique(of_y)))
    blocks = max(1, min(BLOCKS, fewest // FEWEST_A_BLOCK))
    in_x, in_y = parts(of_x, blocks, rng), parts(of_y, blocks, rng)
    found = [
        kernel_distance(x[in_x == b], y[in_y == b], of_x[in_x == b], of_y[in_y == b])
        for b in range(blocks)
    ]
    error = float(np.std(found, ddof=1)) / np.sqrt(blocks) if blocks > 1 else None
    return Spread(float(np.mean(found)), None if error is None else float(error)), blocks


def parts(of: Ints, count: int, rng: np.random.Generator) -> Ints:
    """(N,): a part 0 .. count - 1 for each image, nobody in two, of about equal numbers of
    images; at least two patients in each where each could have that many of them.
    """
    people, sizes = np.unique(of, return_counts=True)
    order = rng.permutation(len(people))
    middle = np.cumsum(sizes[order]) - sizes[order] / 2
    part = np.empty(len(people), np.int64)
    part[order] = np.minimum(count - 1, (middle * count / len(of)).astype(np.int64))
    if len(people) >= TWO * count and np.bincount(part, minlength=count).min() < TWO:
        part[order] = np.arange(len(people)) * count // len(people)
    return part[np.searchsorted(people, of)]


def _kernel(x: Floats, y: Floats) -> Floats:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def _same(of: Ints) -> Bools:
    return of[:, None] == of[None, :]


def _mean(K: Floats, where: Bools) -> float:
    return float(K[where].mean())
