"""Whether scores are probabilities: Brier's score, and the intercept and slope of recalibration.

Scores must lie in [0, 1]; who calls here has looked.
"""

import numpy as np
from scipy.special import expit, logit

from services.evaluation.statistics.cases import Floats, LabelCases
from services.evaluation.statistics.estimate import Estimate
from services.evaluation.statistics.influence import by_class

FURTHEST = 1e-6
"""A score nearer to 0 or 1 counts as this, for its logit would be infinite."""
STEPS = 50
CONVERGED = 1e-10
SEPARATED = 1e3
"""A slope beyond it: the classes are (all but) separated, and it grows without end."""


def are_probabilities(scores: Floats) -> bool:
    return bool(((scores >= 0) & (scores <= 1)).all())


def brier(cases: LabelCases, score: Floats) -> Estimate | None:
    """The mean of (s - y)^2; phi_j = ((s_j - y_j)^2 - mean) / n. None of one class alone, where the
    lowest score is the best whatever it knows.
    """
    n = len(cases.y)
    if not cases.n1 or not cases.n0:
        return None
    loss = (score[cases.rows] - cases.y) ** 2
    phi = np.bincount(cases.patient, weights=(loss - loss.mean()) / n, minlength=cases.G)
    Phi: Floats = cases.corrected(np.ones(n, np.bool_)) * phi
    return Estimate.of_run(float(loss.mean()), Phi, cases.patients, cases.patients)


def intercept(cases: LabelCases, score: Floats) -> Estimate | None:
    """Coefficient a of logit P(y) = a + logit s: zero where the scores add up."""
    return _recalibrated(cases, np.ones((len(cases.y), 1)), _logits(cases, score))


def slope(cases: LabelCases, score: Floats) -> Estimate | None:
    """Coefficient b of logit P(y) = a + b logit s: below one for scores that are too sure."""
    x = _logits(cases, score)
    return _recalibrated(cases, np.column_stack([np.ones(len(x)), x]), np.zeros(len(x)))


def _logits(cases: LabelCases, score: Floats) -> Floats:
    return logit(np.clip(score[cases.rows], FURTHEST, 1 - FURTHEST))


def _recalibrated(cases: LabelCases, X: Floats, offset: Floats) -> Estimate | None:
    """The last coefficient of a logistic regression, by Newton's method.

    phi_j = H^-1 x_j (y_j - p_j) with H = sum p (1 - p) x x'. None where a class is missing, the
    scores are constant, or the classes are separated.
    """
    if cases.n1 == 0 or cases.n0 == 0:
        return None
    y, beta = cases.y.astype(np.float64), np.zeros(X.shape[1])
    for _ in range(STEPS):
        p = expit(X @ beta + offset)
        H = (X * (p * (1 - p))[:, None]).T @ X
        if np.linalg.matrix_rank(H) < len(H) or abs(beta[-1]) > SEPARATED:
            return None
        step = np.linalg.solve(H, X.T @ (y - p))
        beta = beta + step / max(1.0, float(np.abs(step).max()))  # a Newton step may overshoot
        if np.abs(step).max() < CONVERGED:
            phi = np.linalg.solve(H, (X * (y - p)[:, None]).T)[-1]
            return Estimate.of_run(
                float(beta[-1]), by_class(cases, phi), cases.fewest, cases.fewest
            )
    return None
