"""Intervals and tests from an estimate's variance and degrees of freedom."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy.special import betaincinv, expit, logit, stdtr, stdtrit

from services.evaluation.statistics.estimate import Estimate

LEVEL = 0.95
MARGIN_LEVEL = 0.90
"""Of an interval that is held against a margin: two one-sided tests at 5 %."""
FEWEST_DEGREES = 2.0
"""Of patients who carry the variance, too: with fewer t is above 4.3, and limits from it may be 0
and 1 in all but name.
"""
FEWEST_FOR_P = 5
"""Fewer patients in the rarer class, over all labels together, and there is no p-value."""


@dataclass(frozen=True)
class Inference:
    """What may be said of an estimate; a bound or p that cannot honestly be given is None.

    `exact` marks the one-sided limit of a perfect (or perfectly wrong) ranking. `test_sd` and
    `seed_sd` part the variance: sqrt(sum Phi^2), and s of one training seed. `carriers`: as many
    patients as would carry it if each had an equal part.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    nu: float | None = None
    exact: bool = False
    test_sd: float | None = None
    seed_sd: float | None = None
    carriers: float | None = None


def share_inference(A: Estimate) -> Inference:
    """A share, an AUROC, or a mean of such: of 0 or 1 one limit is exact."""
    if A.value not in (0.0, 1.0):
        return logit_inference(A)
    limit = exact_limit(A.fewest)
    low, high = (limit, 1.0) if A.value == 1.0 else (0.0, 1.0 - limit)
    return Inference(A.value, low, high, exact=True)


def auroc_inference(A: Estimate) -> Inference:
    """Below `FEWEST_DEGREES` both limits are bounded.

    A variance is at most A (1 - A) / m for m patients in the rarer class (van Dantzig 1951), that
    of a share of m: so the limits are at most Clopper and Pearson's for A m of m. The seeds' part
    is not bounded so: where it is the larger one, the limits stay. Nor is a rate's variance, to
    which a patient of many images adds as many terms.
    """
    found = share_inference(A)
    if found.low is None or found.high is None:
        return found
    if not _is_borne_by_one(A) or A.V_seeds > A.V_patients:
        return found
    low, high = clopper_pearson(A.value * A.fewest, A.fewest)
    return replace(found, low=max(low, found.low), high=min(high, found.high))


def clopper_pearson(x: float, n: float) -> tuple[float, float]:
    """The exact limits of `x` of `n`, which need not be whole numbers; 0 < x < n."""
    tail = (1 - LEVEL) / 2
    return float(betaincinv(x, n - x + 1, tail)), float(betaincinv(x + 1, n - x, 1 - tail))


def logit_inference(A: Estimate) -> Inference:
    """Between 0 and 1: logit A +- t(nu, .975) sqrt(V) / (A (1 - A)), mapped back."""
    value, V, nu = A.value, A.V, A.nu
    if V is None or nu is None or not 0 < value < 1:
        return Inference(value)
    half = t_quantile(nu, LEVEL) * math.sqrt(V) / (value * (1 - value))
    low, high = float(expit(logit(value) - half)), float(expit(logit(value) + half))
    return replace(_uncertain(A), low=low, high=high, exact=False)


def difference_inference(D: Estimate, reach: float = 1.0) -> Inference:
    """D +- t(nu) sqrt(V) within +-`reach`, and the two-sided p of no difference; no p where one
    side is exact, whose part of V is missing.

    A label with two positive patients rejects a true null in 10 % of tests; a mean over labels
    stays below 6 % although single labels are that rare, so what counts is how many patients
    bear the rarer class over all its labels.
    """
    V, nu = D.V, D.nu
    if V is None or nu is None:
        return Inference(D.value, exact=D.exact)
    low, high = difference_interval(D.value, V, nu, LEVEL, reach)
    if _is_borne_by_one(D) and (low, high) == (-reach, reach):  # whatever the difference is
        return _uncertain(D)
    enough = D.together >= FEWEST_FOR_P and not D.exact
    p = 2 * float(stdtr(nu, -abs(D.value) / math.sqrt(V))) if enough else None
    return replace(_uncertain(D), low=low, high=high, p=p)


def margin_inference(D: Estimate, margin: float, *, two_sided: bool) -> Inference:
    """The 90 % interval, and the p that D is not above -margin (nor, two-sided, below margin).

    Schuirmann's two one-sided tests, J. Pharmacokinet. Biopharm. 15:657 (1987): p is the larger
    of the two, and below 5 % just when the 90 % interval lies inside.
    """
    V, nu = D.V, D.nu
    if V is None or nu is None:
        return Inference(D.value, exact=D.exact)
    low, high = difference_interval(D.value, V, nu, MARGIN_LEVEL)
    inside = min(margin + D.value, margin - D.value) if two_sided else margin + D.value
    enough = D.together >= FEWEST_FOR_P and not D.exact
    p = float(stdtr(nu, -inside / math.sqrt(V))) if enough else None
    return replace(_uncertain(D), low=low, high=high, p=p)


def _is_borne_by_one(E: Estimate) -> bool:
    return E.nu is not None and min(E.nu, E.carriers) < FEWEST_DEGREES


def _uncertain(E: Estimate) -> Inference:
    """What is known of how uncertain it is, without an interval."""
    return Inference(
        E.value,
        nu=E.nu,
        exact=E.exact,
        test_sd=E.test_sd,
        seed_sd=E.seed_sd,
        carriers=E.carriers,
    )


def difference_interval(
    D: float, V: float, nu: float, level: float, reach: float = 1.0
) -> tuple[float, float]:
    half = t_quantile(nu, level) * math.sqrt(V)
    return max(-reach, D - half), min(reach, D + half)


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
    low, high = difference_interval(D.value, V, nu, MARGIN_LEVEL)
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
    return float(stdtrit(nu, 0.5 + level / 2))
