"""How good a cohort is beside real images, each number with what real images give themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl

from api_schemas.findings import FINDINGS, PRESENT
from api_schemas.qualities import Bounded, Compared, Distances, Diversity, FeatureSpace, Scored
from services.evaluation.statistics.cases import Floats, Ints
from services.evaluation.statistics.distances import (
    Spread,
    frechet,
    kernel_distance_in_blocks,
    parts,
)
from services.evaluation.statistics.features import Space
from services.evaluation.statistics.shares import Mean, Sample, difference, mean_of

DRAWS = 10
PAIRS, PAIRS_A_CONDITION, MEMBERS = 300, 5, 40
"""Pairs of either set in all, of one condition, and the images of one that pairs are drawn from."""

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Set:
    """Features (N, D) of images and the numbers of the patients they are of."""

    features: Floats
    patient: Ints

    def some(self, rows: Ints) -> "Set":
        return Set(self.features[rows], self.patient[rows])


def distances(space: Space, cohort: Set, reference: Set, seed: int) -> Distances:
    """Cohort against one half of the reference, beside the other half against it.

    Halves share no patient, and all that is compared has the same number of images. Fréchet
    distances are means over `DRAWS` halvings with their standard deviation over these; kernel
    distances are of the first halving, with a standard error over blocks of patients.
    """
    rng = np.random.default_rng(seed)
    halvings = [parts(reference.patient, 2, rng) for _ in range(DRAWS)]
    n = min(len(cohort.patient), *(int(np.bincount(h, minlength=2).min()) for h in halvings))
    draws = [_drawn(cohort, reference, halving, n, rng) for halving in halvings]
    synthetic, half, other = draws[0]
    kid, blocks = _in_blocks(synthetic, half, seed)
    kid_floor, _ = _in_blocks(other, half, seed)
    return Distances(
        features=FeatureSpace(
            name=space.name, version=space.version, dimension=space.dimension, about=space.about
        ),
        images=n,
        draws=DRAWS,
        blocks=blocks,
        frechet=Compared(
            cohort=_over([frechet(s.features, a.features) for s, a, _ in draws]),
            floor=_over([frechet(b.features, a.features) for _, a, b in draws]),
        ),
        kernel=Compared(cohort=_scored(kid), floor=_scored(kid_floor)),
    )


def _drawn(
    cohort: Set, reference: Set, halving: Ints, n: int, rng: np.random.Generator
) -> tuple[Set, Set, Set]:
    """Images of the cohort and of both halves, n of each."""
    rows = (np.arange(len(cohort.patient)), np.flatnonzero(halving == 0), np.flatnonzero(halving))
    synthetic, half, other = (rng.permutation(each)[:n] for each in rows)
    return cohort.some(synthetic), reference.some(half), reference.some(other)


def _in_blocks(one: Set, other: Set, seed: int) -> tuple[Spread, int]:
    rng = np.random.default_rng(seed)
    return kernel_distance_in_blocks(one.features, other.features, one.patient, other.patient, rng)


def _over(values: Sequence[float]) -> Scored:
    return Scored(value=float(np.mean(values)), error=float(np.std(values, ddof=1)))


def _scored(spread: Spread) -> Scored:
    return Scored(value=spread.value, error=spread.error)


# ---------------------------------------------------------------- diversity


@dataclass(frozen=True, eq=False)
class Drawn:
    """Pairs of images of one condition: rows of the cohort, as many rows of the reference, and
    the number of each pair's condition.
    """

    cohort: Sequence[Pair]
    reference: Sequence[Pair]
    condition: Ints


def draw_pairs(cohort: pl.DataFrame, reference: pl.DataFrame, seed: int) -> Drawn:
    """Up to `PAIRS` random pairs of either set, the same number of each condition that both have
    two patients of: sex, decade of age, and the findings that are present.
    """
    rng = np.random.default_rng(seed)
    ours, theirs = _by_condition(cohort), _by_condition(reference)
    shared = sorted(ours.keys() & theirs.keys())
    chosen: tuple[list[Pair], list[Pair]] = ([], [])
    codes: list[int] = []
    for code in rng.permutation(len(shared)):
        mine = _pairs_in(cohort, ours[shared[code]], rng)
        real = _pairs_in(reference, theirs[shared[code]], rng)
        k = min(len(mine), len(real), PAIRS - len(codes))
        chosen[0].extend(mine[:k])
        chosen[1].extend(real[:k])
        codes += [int(code)] * k
    return Drawn(*chosen, np.array(codes, np.int64))


def diversity(drawn: Drawn, cohort: Floats, reference: Floats, scales: int, side: int) -> Diversity:
    """The mean MS-SSIM of the pairs of both sets, its intervals clustered by condition."""
    sample = Sample(drawn.condition, int(drawn.condition.max()) + 1)
    everything = np.ones(len(drawn.condition), np.bool_)
    ours, theirs = (mean_of(sample, each, everything) for each in (cohort, reference))
    assert ours is not None  # noqa: S101 - there are pairs
    assert theirs is not None  # noqa: S101 - likewise
    d, (low, high) = difference(theirs, ours)
    assert d is not None  # noqa: S101 - of two means
    return Diversity(
        pairs=len(drawn.condition),
        conditions=len(np.unique(drawn.condition)),
        scales=scales,
        size_px=side,
        cohort=_bounded(ours),
        reference=_bounded(theirs),
        difference=Bounded(value=d, low=low, high=high),
    )


def _by_condition(frame: pl.DataFrame) -> dict[str, list[int]]:
    """Rows by condition, as a word; images that do not state sex or age have none."""
    findings = [(pl.col(str(f)) == PRESENT).fill_null(value=False).cast(pl.Int8) for f in FINDINGS]
    words = frame.select(
        pl.concat_str(
            pl.col("sex"), pl.col("age") // 10, *findings, separator="|", ignore_nulls=False
        )
    ).to_series()
    rows: dict[str, list[int]] = {}
    for row, word in enumerate(words):
        if word is not None:
            rows.setdefault(word, []).append(row)
    return rows


def _pairs_in(frame: pl.DataFrame, rows: Sequence[int], rng: np.random.Generator) -> list[Pair]:
    """Some pairs of different patients, in random order."""
    members = [int(each) for each in rng.permutation(np.array(rows))[:MEMBERS]]
    whose = dict(zip(members, frame["patient_id"].gather(members).to_list(), strict=True))
    pairs = [pair for pair in combinations(members, 2) if whose[pair[0]] != whose[pair[1]]]
    order = rng.permutation(len(pairs))[:PAIRS_A_CONDITION]
    return [pairs[each] for each in order]


def _bounded(mean: Mean) -> Bounded:
    """Of a mean of MS-SSIM, which lies between 0 and 1: few conditions give limits beyond."""
    low, high = (None if limit is None else min(1.0, max(0.0, limit)) for limit in mean.limits)
    return Bounded(value=mean.value, low=low, high=high)
