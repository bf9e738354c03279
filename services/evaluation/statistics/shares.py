"""Shares and means over images that are clustered by patient, and their differences."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.evaluation.statistics.cases import Bools, Floats
from services.evaluation.statistics.estimate import ROUNDING, Estimate
from services.evaluation.statistics.inference import (
    LEVEL,
    clopper_pearson,
    share_inference,
    t_quantile,
)

Limits = tuple[float | None, float | None]


@dataclass(frozen=True, eq=False)
class Sample:
    """One side of a comparison: the patient of each image, numbered among all G patients of both
    sides, so that a patient of both sides is one patient.
    """

    patient: NDArray[np.int64]  # (N,)
    G: int


@dataclass(frozen=True, eq=False)
class Mean:
    """A mean over `images` images with its 95 % limits; a share is the mean of a yes or no."""

    estimate: Estimate
    images: int
    limits: Limits

    @property
    def value(self) -> float:
        return self.estimate.value


def mean_of(sample: Sample, y: Floats, known: Bools) -> Mean | None:
    """The mean of `y` over the images where it is known: a ratio of sums over patients.

    theta = sum y / n, phi_g = c sum over g's images of (y - theta) / n, c^2 = I / (I - 1) for I
    patients taking part; theta +- t(nu) sqrt(sum phi^2). None where nothing is known.
    """
    made = _ratio(sample, y, known)
    if made is None:
        return None
    V, nu = made.V, made.nu
    if V is None or nu is None:
        return Mean(made, int(known.sum()), (None, None))
    half = t_quantile(nu, LEVEL) * math.sqrt(V)
    return Mean(made, int(known.sum()), (made.value - half, made.value + half))


def share_of(sample: Sample, y: Bools, known: Bools) -> Mean | None:
    """The share of `y` among the images where it is known, with Korn and Graubard's limits.

    Those of Clopper and Pearson for as many images as have the share's variance if they were
    independent: n* = c^2 p (1 - p) / sum phi^2, at most n (Surv. Methodol. 24:193, 1998; c^2 =
    I / (I - 1)). With one image a patient they are exact. Of a share of 0 or 1 one limit is that
    of I patients who all agree.
    """
    made = _ratio(sample, y.astype(np.float64), known)
    if made is None:
        return None
    p, n, taking_part = made.value, int(known.sum()), len(np.unique(sample.patient[known]))
    if 0 < p < 1 and made.V_patients > ROUNDING:
        correction = taking_part / (taking_part - 1)
        effective = min(float(n), correction * p * (1 - p) / made.V_patients)
        return Mean(made, n, clopper_pearson(p * effective, effective))
    sides = (known & y, known & ~y)
    fewest = min(len(np.unique(sample.patient[side])) for side in sides)
    agree = made.fewest if fewest == 0 else fewest
    found = share_inference(Estimate(made.values, made.runs, agree, agree))
    return Mean(made, int(known.sum()), (found.low, found.high))


def difference(first: Mean | None, second: Mean | None) -> tuple[float | None, Limits]:
    """The second minus the first, with limits recovered from those of the two (MOVER, Zou 2008).

    L = d - sqrt((t2 - l2)^2 + (u1 - t1)^2 - 2 r (t2 - l2)(u1 - t1)), and U likewise; r is the
    correlation of the two through patients of both sides, zero without any.
    """
    if first is None or second is None:
        return None, (None, None)
    d = second.value - first.value
    (l1, u1), (l2, u2) = first.limits, second.limits
    if l1 is None or u1 is None or l2 is None or u2 is None:
        return d, (None, None)
    t1, t2, r = first.value, second.value, _correlation(first.estimate, second.estimate)
    low = d - _mover(t2 - l2, u1 - t1, r)
    high = d + _mover(u2 - t2, t1 - l1, r)
    return d, (low, high)


def _mover(a: float, b: float, r: float) -> float:
    return math.sqrt(max(0.0, a * a + b * b - 2 * r * a * b))


def _correlation(first: Estimate, second: Estimate) -> float:
    scale = math.sqrt(first.V_patients * second.V_patients)
    return float(first.Phi @ second.Phi) / scale if scale > 0 else 0.0


def _ratio(sample: Sample, y: Floats, known: Bools) -> Estimate | None:
    n = int(known.sum())
    if not n:
        return None
    who, values = sample.patient[known], y[known]
    theta = float(values.mean())
    taking_part = len(np.unique(who))
    c = math.sqrt(taking_part / (taking_part - 1)) if taking_part > 1 else 1.0
    phi = np.bincount(who, weights=(values - theta) / n, minlength=sample.G)
    Phi: Floats = (c * phi).astype(np.float64)
    return Estimate.of_run(theta, Phi, taking_part, taking_part)
