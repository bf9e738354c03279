"""ROC and calibration curves of one arm on one test set, with pointwise intervals that know
patients.

Knows truth and scores; not which arm they are of, nor how a curve is drawn.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtr, ndtri, stdtrit

from api_schemas.evaluation import MACRO
from services.evaluation.statistics.cases import Bools, Cases, Floats, Ints, LabelCases
from services.evaluation.statistics.estimate import ROUNDING
from services.evaluation.statistics.inference import LEVEL

RATES: Floats = np.linspace(0, 1, 101) ** 2
"""False positive rates of a ROC curve: denser where it rises steeply."""
HALF_A_PROBIT = 0.5
BINS = 10
ROUNDED = 1e-9
"""A share times a count that is this close to a whole number is that number."""


@dataclass(frozen=True, eq=False)
class Roc:
    """Sensitivity at each of `RATES`; a band is None where one patient holds a whole class."""

    sensitivity: Floats  # (T,)
    low: Floats | None = None
    high: Floats | None = None


@dataclass(frozen=True)
class CalibrationBin:
    """Images whose scores are alike: their mean score, and the share that has the finding."""

    predicted: float
    observed: float
    low: float | None
    high: float | None
    images: int


@dataclass(frozen=True, eq=False)
class Curves:
    """By label and `macro`, which is the mean ROC curve of the labels that are averaged, and the
    calibration over all their images together. A label without both classes is left out.
    """

    roc: Mapping[str, Roc]
    calibration: Mapping[str, Sequence[CalibrationBin]]
    """Empty where scores are no probabilities."""


def curves(cases: Cases, runs: Sequence[Floats]) -> Curves:
    """The curves of an arm; `runs` holds the scores (N, L) of each training seed."""
    columns = list(zip(cases.labels, cases.by_label, range(len(cases.labels)), strict=True))
    estimable = [each for each in columns if each[1].n1 and each[1].n0]
    rocs = {name: _pieces(label, [s[:, j] for s in runs]) for name, label, j in estimable}
    averaged = [rocs[name] for name in cases.averaged if name in rocs]
    if averaged:
        rocs = {MACRO: _mean(cases, averaged), **rocs}
    return Curves({name: _roc(pieces) for name, pieces in rocs.items()}, _calibrations(cases, runs))


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Sensitivities of R runs with the influence of each patient on their mean. `bearing` counts
    the patients with a positive, `fewest` those of the rarer class.
    """

    R: Floats  # (R, T)
    Phi: Floats  # (G, T)
    bearing: int
    fewest: int


def _pieces(label: LabelCases, runs: Sequence[Floats]) -> _Pieces:
    found = [sensitivities(label, s) for s in runs]
    return _Pieces(
        np.array([R for R, _ in found]),
        np.mean([Phi for _, Phi in found], axis=0),
        label.I1,
        label.fewest,
    )


def _mean(cases: Cases, labels: Sequence[_Pieces]) -> _Pieces:
    """The mean of the labels' curves at equal false positive rates."""
    columns = [cases.labels.index(label) for label in cases.averaged]
    bearing = len(np.unique(cases.patient[(cases.truth[:, columns] == 1).any(axis=1)]))
    R = np.mean([each.R for each in labels], axis=0)
    Phi = np.mean([each.Phi for each in labels], axis=0)
    return _Pieces(R, Phi, bearing, min(each.fewest for each in labels))


def sensitivities(cases: LabelCases, score: Floats) -> tuple[Floats, Floats]:
    """R(t) (T,) at the false positive rates t of `RATES`, and its influence per patient (G, T).

    d_i(t) is the share of image i that counts as positive when the threshold lets pass exactly
    the share t of the negatives; inside a tie it grows evenly, as the trapezoids of the empirical
    curve do. R(t) is the mean of d over the positives, and

        phi_i = y_i (d_i - R)/n1 - (1 - y_i) r (d_i - t)/n0

    corrected within each class as for AUROC, with r the slope of the curve: a threshold that let
    too many negatives pass here also let too many positives pass (Hsieh and Turnbull, Ann.
    Statist. 24:25, 1996).
    """
    y, s, n1, n0 = cases.y, score[cases.rows], cases.n1, cases.n0
    d = _passing(s, np.sort(s[~y]), n0)  # (n, T)
    R = d[y].mean(axis=0)
    r = _slope(R, n1, n0)
    phi = np.where(y[:, None], (d - R) / n1, -r * (d - RATES) / n0)  # (n, T)
    return R, _by_patient(cases.correction[:, None] * phi, cases.patient, cases.G)


def _passing(s: Floats, negatives: Floats, n0: int) -> Floats:
    """d_i(t), (n, T), from the sorted scores of the negatives."""
    above = n0 - np.searchsorted(negatives, s, side="right")
    tied = n0 - np.searchsorted(negatives, s, side="left") - above
    passed = RATES * n0 - above[:, None]
    whole = (passed > -ROUNDED).astype(np.float64)
    shares = np.clip(passed / np.maximum(tied, 1)[:, None], 0.0, 1.0)
    return np.where(tied[:, None] > 0, shares, whole)


def _slope(R: Floats, n1: int, n0: int) -> Floats:
    """dR/dt of a curve that is locally a straight line on normal axes.

    The difference quotient of z = probit R over probit t, half a unit to either side, times
    the densities' ratio. On such axes ROC curves are nearly straight, so the window can be wide.
    """
    x = ndtri(np.clip(RATES, 1 / (2 * n0), 1 - 1 / (2 * n0)))

    def z(at: Floats) -> Floats:
        R_there = np.interp(ndtr(at), RATES, R)
        return ndtri(np.clip(R_there, 1 / (2 * n1), 1 - 1 / (2 * n1)))

    steepness = (z(x + HALF_A_PROBIT) - z(x - HALF_A_PROBIT)) / (2 * HALF_A_PROBIT)
    return steepness * np.exp((x**2 - z(x) ** 2) / 2)


def _roc(of: _Pieces) -> Roc:
    """With V = sum Phi^2 + s^2/R and its degrees of freedom, patients with a positive less 1."""
    R = of.R.mean(axis=0)
    if of.fewest < 2:  # noqa: PLR2004 - nothing varies with one
        return Roc(R)
    runs = len(of.R)
    V_patients = np.sum(of.Phi**2, axis=0)
    V_seeds = of.R.var(axis=0, ddof=1) / runs if runs > 1 else np.zeros_like(R)
    V = V_patients + V_seeds
    certain = V <= ROUNDING
    weighted = V_patients / (of.bearing - 1) + V_seeds / max(runs - 1, 1)
    nu = np.where(certain, of.bearing - 1, V / np.where(certain, 1.0, weighted))
    low, high = share_interval(R, V, nu, of.bearing)
    low[-1] = high[-1] = 1.0  # where everything passes nothing is uncertain
    return Roc(R, low, high)


def share_interval(p: Floats, V: Floats, nu: Floats, patients: int) -> tuple[Floats, Floats]:
    """Wilson's interval of a share for as many independent images as give it the variance V.

    n = p (1 - p)/V is that number; where nothing varies, as at p = 1, it is that of the patients.
    Wilson, JASA 22:209 (1927); the effective number after Korn and Graubard (1998).
    """
    known = (V > ROUNDING) & (p > 0) & (p < 1)
    n = np.where(known, p * (1 - p) / np.where(known, V, 1.0), float(patients))
    q = stdtrit(nu, 0.5 + LEVEL / 2)
    shrink = 1 + q**2 / n
    centre = (p + q**2 / (2 * n)) / shrink
    half = q / shrink * np.sqrt(p * (1 - p) / n + q**2 / (4 * n**2))
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)


def _calibrations(cases: Cases, runs: Sequence[Floats]) -> dict[str, list[CalibrationBin]]:
    """The images of all training seeds side by side, clustered by patient all the same."""
    if any(s.min() < 0 or s.max() > 1 for s in runs):
        return {}
    R = len(runs)
    parts = {
        name: (
            np.tile(label.y, R),
            np.concatenate([s[label.rows, j] for s in runs]),
            np.tile(label.patient, R),
        )
        for j, (name, label) in enumerate(zip(cases.labels, cases.by_label, strict=True))
        if label.n1 and label.n0
    }
    averaged = [parts[name] for name in cases.averaged if name in parts]
    if averaged:
        y, s, patient = (np.concatenate(each) for each in zip(*averaged, strict=True))
        parts = {MACRO: (y, s, patient), **parts}
    return {name: calibration(*part, runs=R) for name, part in parts.items()}


def calibration(y: Bools, s: Floats, patient: Ints, *, runs: int) -> list[CalibrationBin]:
    """Up to `BINS` bins of equally many images by score; equal scores share one.

    o = mean y in a bin has phi_i = (y_i - o)/n there. The interval is over patients; that the
    trainings differ is no part of it.
    """
    edges = np.unique(np.quantile(s, np.linspace(0, 1, BINS + 1)[1:-1], method="higher"))
    which = np.searchsorted(edges, s, side="right")
    return [_bin(y[inside], s[inside], patient[inside], runs) for inside in _each(which)]


def _each(which: Ints) -> list[Ints]:
    return [np.flatnonzero(which == k) for k in np.unique(which)]


def _bin(y: Bools, s: Floats, patient: Ints, runs: int) -> CalibrationBin:
    n, o = len(y), float(y.mean())
    distinct, codes = np.unique(patient, return_inverse=True)
    I = len(distinct)  # noqa: E741 - the formula's symbol
    images = round(n / runs)
    if I < 2:  # noqa: PLR2004 - nothing varies with one
        return CalibrationBin(float(s.mean()), o, None, None, images)
    Phi = math.sqrt(I / (I - 1)) * np.bincount(codes, weights=(y - o) / n)
    low, high = share_interval(
        np.array(o), np.array(float(Phi @ Phi)), np.array(I - 1.0), patients=I
    )
    return CalibrationBin(float(s.mean()), o, float(low), float(high), images)


def _by_patient(phi: Floats, patient: Ints, G: int) -> Floats:
    """Sums (G, T) over each patient's images."""
    n = len(patient)
    return csr_array((np.ones(n), (patient, np.arange(n))), shape=(G, n)) @ phi
