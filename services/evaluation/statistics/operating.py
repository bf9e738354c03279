"""Rates at an operating point: the threshold is part of what was estimated, and so is its error.

A rate is the share of some images D that are scored above a threshold t, and t follows from the
scores of some images E: for a fixed specificity those of the negatives, for a fixed sensitivity
those of the positives, at the break-even point all of them.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from services.evaluation.statistics.cases import Bools, Floats, LabelCases
from services.evaluation.statistics.estimate import Estimate
from services.evaluation.statistics.influence import by_class

WINDOW = 2.0
"""Half the width, in standard errors of the threshold's rank, over which kappa is counted."""
NARROWEST = 3


@dataclass(frozen=True, eq=False)
class Cut:
    """A threshold and its pull: case j moves it as if it added h_j to the count above it.

    `low` and `high` are the scores between which the threshold might as well have been.
    """

    t: float
    h: Floats  # (n,), sums to zero
    E: Bools  # (n,)
    low: float
    high: float


def sensitivity_at(cases: LabelCases, score: Floats, specificity: float) -> Estimate | None:
    """The share of positives above the lowest threshold that calls at most 1 - `specificity` of
    the negatives positive.
    """
    return _at(cases, score, cases.y, 1 - specificity)


def specificity_at(cases: LabelCases, score: Floats, sensitivity: float) -> Estimate | None:
    """The same with the classes changed over: of the negatives below the highest threshold that
    misses at most 1 - `sensitivity` of the positives.
    """
    return _at(cases, -score, ~cases.y, 1 - sensitivity)


def _at(cases: LabelCases, score: Floats, D: Bools, above: float) -> Estimate | None:
    s, E = score[cases.rows], ~D
    if not _has_thresholds(cases, s):
        return None
    count = math.floor(above * np.count_nonzero(E) + 1e-9)  # .1 * 10 is a little below 1
    return _rate(cases, s, D, _cut(cases, s, E, count, np.zeros(len(s))))


def break_even(cases: LabelCases, score: Floats) -> Cut | None:
    """The threshold above which as many images lie as are positive: precision is recall there."""
    s = score[cases.rows]
    if not _has_thresholds(cases, s):
        return None
    everything = np.ones(len(cases.y), np.bool_)
    return _cut(cases, s, everything, cases.n1, cases.y.astype(np.float64))


def _has_thresholds(cases: LabelCases, s: Floats) -> bool:
    """Whether both classes are there, and anything to tell them by."""
    return cases.n1 > 0 and cases.n0 > 0 and bool(s.min() < s.max())


def missed(cases: LabelCases, score: Floats, cut: Cut, members: Bools) -> Estimate | None:
    """The share of the positives among `members` (images of the test set) not above the cut."""
    found = _rate(cases, score[cases.rows], cases.y & members[cases.rows], cut)
    return found and replace(found, values=1 - found.values, runs=-found.runs)


def false_alarms(cases: LabelCases, score: Floats, cut: Cut, members: Bools) -> Estimate | None:
    """The share of the negatives among `members` that lie above the cut."""
    return _rate(cases, score[cases.rows], ~cases.y & members[cases.rows], cut)


def _cut(cases: LabelCases, s: Floats, E: Bools, above: int, due: Floats) -> Cut:
    """The lowest threshold above which at most `above` cases of E lie.

    h_j = 1[s_j > t] of a case of E, less what is due above t for its sake, centred.
    """
    s_E = np.sort(s[E])
    rank = max(0, len(s_E) - above - 1)
    t = float(s_E[rank])
    h = np.where(E, (s > t) - due, 0.0)
    h -= np.where(E, h.sum() / len(s_E), 0.0)
    Phi = by_class(cases, h)
    reach = max(NARROWEST, math.ceil(WINDOW * math.sqrt(float(Phi @ Phi))))
    low, high = s_E[max(0, rank - reach)], s_E[min(len(s_E) - 1, rank + reach)]
    return Cut(t, h, E, float(low), float(high))


def _rate(cases: LabelCases, s: Floats, D: Bools, cut: Cut) -> Estimate | None:
    """R = share of D above t; n_D phi_j = D_j (1[s_j > t] - R) - kappa h_j.

    kappa is how many cases of D cross the threshold when one of E does, counted around it.
    None where D is empty.
    """
    n = int(np.count_nonzero(D))
    if not n:
        return None
    above = s > cut.t
    R = np.count_nonzero(above & D) / n
    near = (s >= cut.low) & (s <= cut.high)
    kappa = np.count_nonzero(near & D) / np.count_nonzero(near & cut.E)
    phi = (D * (above - R) - kappa * cut.h) / n
    bearers = min(cases.fewest, int(np.count_nonzero(np.bincount(cases.patient[D]))))
    Phi = by_class(cases, phi)
    return Estimate.of_run(R, Phi, bearers, bearers, exact=R in {0.0, 1.0})
