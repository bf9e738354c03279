"""The smallest difference in macro AUROC that a test set can show, before anything is trained.

Counts patients, knows no scores: the answer is as good as the assumptions that come with it.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from api_schemas.planning import LabelCounts, PowerAssumptions


def smallest_difference(
    labels: Sequence[LabelCounts], seeds: int, assumed: PowerAssumptions
) -> tuple[float, float] | None:
    """For the stronger and the weaker correlation between arms; None without an estimable label.

    D = (z_{1 - alpha/2} + z_power) sqrt(V + s^2 / R), V of the patients, s^2 / R of R seeds.
    """
    counts = [(c.positive_patients, c.negative_patients) for c in labels if c.estimable]
    if not counts:
        return None
    normal = NormalDist()
    z = normal.inv_cdf(1 - assumed.alpha / 2) + normal.inv_cdf(assumed.power)
    of_labels = [hanley_mcneil(assumed.auroc, n1, n0) for n1, n0 in counts]
    of_seeds = assumed.seed_sd**2 / seeds

    def shown(between_arms: float) -> float:
        # both arms have the same variance V: that of their difference is 2 (1 - rho) V
        differences = [2 * (1 - between_arms) * V for V in of_labels]
        return z * math.sqrt(mean_variance(differences, assumed.labels_correlation) + of_seeds)

    weaker, stronger = assumed.arms_correlation
    return shown(stronger), shown(weaker)


def hanley_mcneil(A: float, n1: int, n0: int) -> float:  # noqa: N803 - the paper's symbols
    """Variance of an AUROC of A (Hanley and McNeil, Radiology 143, 1982, eq. 1).

    V = [A (1 - A) + (n1 - 1)(Q1 - A^2) + (n0 - 1)(Q2 - A^2)] / (n1 n0), with Q1 = A / (2 - A)
    and Q2 = 2 A^2 / (1 + A). Patients are counted, not images: those of one patient tell alike.
    """
    Q1, Q2 = A / (2 - A), 2 * A**2 / (1 + A)  # noqa: N806 - likewise
    return (A * (1 - A) + (n1 - 1) * (Q1 - A**2) + (n0 - 1) * (Q2 - A**2)) / (n1 * n0)


def mean_variance(variances: Sequence[float], correlation: float) -> float:
    """Variance of the mean of quantities that are all correlated alike."""
    total, deviations = sum(variances), sum(math.sqrt(v) for v in variances)
    return (total + correlation * (deviations**2 - total)) / len(variances) ** 2
