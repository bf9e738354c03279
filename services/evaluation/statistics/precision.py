"""Average precision of one label, and the influence of each patient on it."""

import numpy as np

from services.evaluation.statistics.cases import Floats, LabelCases
from services.evaluation.statistics.estimate import Estimate
from services.evaluation.statistics.influence import by_class


def average_precision(cases: LabelCases, score: Floats) -> Estimate | None:
    """AP = 1/n1 sum over positives i of T_i/N_i: of the N_i cases scored at least as high as i,
    T_i are positive. Steps, not interpolated; equal scores are one step.

    n1 phi_j = y_j (T_j/N_j - AP) + sum over positives i with s_i <= s_j of y_j/N_i - T_i/N_i^2,
    the derivative of AP by the weight of case j. None where a class is missing.
    """
    if cases.n1 == 0 or cases.n0 == 0:
        return None
    s = score[cases.rows]
    order = np.argsort(-s, kind="stable")
    y, s = cases.y[order].astype(np.float64), s[order]
    starts = np.flatnonzero(np.concatenate(([True], s[1:] != s[:-1])))
    size = np.diff(np.append(starts, len(s)))
    m1 = np.add.reduceat(y, starts)  # (K,) positives of each distinct score, highest first
    N, T = np.cumsum(size), np.cumsum(m1)
    AP = float(m1 @ (T / N)) / cases.n1
    gain, loss = _from_here_on(m1 / N), _from_here_on(m1 * T / N**2)
    step = np.repeat(np.arange(len(starts)), size)
    phi = np.empty(len(s))
    phi[order] = (y * ((T / N)[step] - AP + gain[step]) - loss[step]) / cases.n1
    Phi = by_class(cases, phi)
    return Estimate.of_run(AP, Phi, cases.fewest, cases.fewest, exact=AP == 1)


def _from_here_on(steps: Floats) -> Floats:
    return np.cumsum(steps[::-1])[::-1]
