"""AUROC of one label and the influence of each patient on it."""

from dataclasses import replace

import numpy as np

from services.evaluation.statistics.cases import Bools, Cases, Floats, LabelCases
from services.evaluation.statistics.estimate import Estimate, mean


def placements(y: Bools, s: Floats) -> tuple[float, Floats]:
    """A and the placement of every case among the other class; ties count half, one sort.

    V10_i of a positive is the share of negatives scored below it, V01_i of a negative the share
    of positives scored above it; A is the mean of either. A is summed in integers, so that a
    perfect ranking is exactly 1. Both classes must be there.
    """
    order = np.argsort(s)
    y_sorted, s_sorted = y[order], s[order]
    starts = np.flatnonzero(np.concatenate(([True], s_sorted[1:] != s_sorted[:-1])))
    size = np.diff(np.append(starts, len(s)))  # (K,) cases of each distinct score
    m1 = np.add.reduceat(y_sorted.astype(np.int64), starts)  # (K,) positives among them
    m0 = size - m1
    n1, n0 = int(m1.sum()), int(m0.sum())
    twice_below = 2 * (np.cumsum(m0) - m0) + m0  # twice the negatives below, ties half
    twice_above = 2 * (n1 - np.cumsum(m1)) + m1  # twice the positives above, ties half
    A = int(m1 @ twice_below) / (2 * n1 * n0)
    V10, V01 = twice_below / (2 * n0), twice_above / (2 * n1)
    V = np.empty(len(s))
    V[order] = np.where(y_sorted, np.repeat(V10, size), np.repeat(V01, size))
    return A, V


def auroc(cases: LabelCases, score: Floats) -> Estimate | None:
    """AUROC of `score` (one per image of the test set) and its influence per patient.

    phi_i = y_i c1 (V10_i - A)/n1 + (1 - y_i) c0 (V01_i - A)/n0, summed over a patient's images.
    With one image a patient, sum Phi^2 is DeLong's variance. None where a class is missing.
    """
    n1, n0 = cases.n1, cases.n0
    if n1 == 0 or n0 == 0:
        return None
    A, V = placements(cases.y, score[cases.rows])
    phi = np.where(cases.y, 1 / n1, 1 / n0) * (V - A)
    Phi = by_class(cases, phi)
    return Estimate.of_run(A, Phi, cases.fewest, cases.fewest, exact=A in {0.0, 1.0})


def by_class(cases: LabelCases, phi: Floats) -> Floats:
    """Phi of each patient from the influence of each case, both classes corrected on their own."""
    weighted = phi * cases.correction
    return np.bincount(cases.patient, weights=weighted, minlength=cases.G).astype(np.float64)


def label_aurocs(cases: Cases, scores: Floats) -> list[Estimate | None]:
    """AUROC of each label; `scores` is (N, L)."""
    return [auroc(label, scores[:, column]) for column, label in enumerate(cases.by_label)]


def macro(cases: Cases, aurocs: list[Estimate | None]) -> Estimate | None:
    """The unweighted mean over `cases.averaged`; None without any, or where one of them lacks a
    class: inside a group, whose mean over fewer labels than another's could not be held against it.

    Which labels these are follows from the truth alone: they are the same for every arm and seed.
    """
    each = zip(cases.labels, aurocs, strict=True)
    wanted = [A for label, A in each if label in cases.averaged]
    known = [A for A in wanted if A is not None]
    if not known or len(known) < len(wanted):
        return None
    return replace(mean(known), together=cases.together)
