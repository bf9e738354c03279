"""Intervals and tests from an estimate's variance and degrees of freedom."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import expit, logit
from scipy.stats import t as student

from services.evaluation.statistics.estimate import Estimate

LEVEL = 0.95
FEWEST_FOR_P = 5
"""Fewer patients in the rarer class, over all labels together, and there is no p-value."""


@dataclass(frozen=True)
class Inference:
    """What may be said of an estimate; a bound or p that cannot honestly be given is None.

    `exact` marks the one-sided limit of a perfect (or perfectly wrong) ranking.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    nu: float | None = None
    exact: bool = False


def auroc_inference(A: Estimate) -> Inference:
    """An AUROC or a mean of AUROCs: logit A +- t(nu, .975) sqrt(V) / (A (1 - A)), mapped back."""
    value = A.value
    if value in (0.0, 1.0):
        limit = exact_limit(A.fewest)
        low, high = (limit, 1.0) if value == 1.0 else (0.0, 1.0 - limit)
        return Inference(value, low, high, exact=True)
    V, nu = A.V, A.nu
    if V is None or nu is None:
        return Inference(value)
    half = t_quantile(nu, LEVEL) * math.sqrt(V) / (value * (1 - value))
    low, high = float(expit(logit(value) - half)), float(expit(logit(value) + half))
    return Inference(value, low, high, nu=nu)


def difference_inference(D: Estimate) -> Inference:
    """D +- t(nu) sqrt(V) within [-1, 1], and the two-sided p of no difference.

    A label with two positive patients rejects a true null in 10 % of tests; a mean over labels
    stays below 6 % although single labels are that rare, so what counts is how many patients
    bear the rarer class over all its labels.
    """
    V, nu = D.V, D.nu
    if V is None or nu is None:
        return Inference(D.value)
    low, high = difference_interval(D.value, V, nu, LEVEL)
    enough = D.together >= FEWEST_FOR_P
    p = 2 * float(student.sf(abs(D.value) / math.sqrt(V), nu)) if enough else None
    return Inference(D.value, low, high, p, nu)


def difference_interval(D: float, V: float, nu: float, level: float) -> tuple[float, float]:
    half = t_quantile(nu, level) * math.sqrt(V)
    return max(-1.0, D - half), min(1.0, D + half)


def exact_limit(fewest: int) -> float:
    """The lower 95 % limit of A when every pair was ranked right.

    Patients make at least `fewest` disjoint pairs of a positive and a negative, each right with
    probability A, so a perfect ranking has probability at most A^fewest.
    """
    return float(0.05 ** (1 / fewest))


def is_equivalent(D: Estimate, margin: float) -> bool:
    """Whether the 90 % interval lies inside +-margin (two one-sided tests at 5 %)."""
    V, nu = D.V, D.nu
    if V is None or nu is None:
        return False
    low, high = difference_interval(D.value, V, nu, 0.90)
    return -margin < low and high < margin


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values. A member without a p counts in the family as 1."""
    order = sorted(range(len(ps)), key=lambda i: _or_one(ps[i]))
    adjusted: list[float | None] = [None] * len(ps)
    running = 0.0
    for rank, i in enumerate(order):
        p = ps[i]
        running = min(1.0, max(running, (len(ps) - rank) * _or_one(p)))
        adjusted[i] = None if p is None else running
    return adjusted


def _or_one(p: float | None) -> float:
    return 1.0 if p is None else p


def t_quantile(nu: float, level: float) -> float:
    return float(student.ppf(0.5 + level / 2, nu))
