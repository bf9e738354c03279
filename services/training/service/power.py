"""The smallest difference in macro AUROC that a test set can show, before anything is trained.

Counts patients, knows no scores: the answer is as good as the assumptions that come with it.
"""

import math
from collections.abc import Sequence

from scipy.special import stdtrit

from api_schemas.planning import LabelCounts, PowerAssumptions

FEWEST_PATIENTS = 5
"""In the rarer class: with fewer, evaluation gives no p-value."""


def smallest_difference(
    labels: Sequence[LabelCounts], seeds: int, assumed: PowerAssumptions, tests: int = 1
) -> tuple[float, float] | None:
    """For the stronger and the weaker correlation between arms, of the mean over `labels`. None
    where `no_verdict` says why.

    D = (t_{1 - alpha/2m} + t_power) sqrt(V + s^2 / R), V of the patients, s^2 / R of R seeds; the
    degrees of freedom of t are evaluation's: 1/nu = (V / (n - 1) + s^2 / R / (R - 1)) / (V + s^2/R)
    with n patients in the rarer class of the label that has most of them. alpha is shared by the m
    `tests`: the smallest of m p-values has to be below alpha / m, as Holm has it, and so has any
    that stands alone.
    """
    if no_verdict(labels, seeds) is not None:
        return None
    counts = [(c.positive_patients, c.negative_patients) for c in labels]
    n = max(min(pair) for pair in counts)
    of_labels = [hanley_mcneil(assumed.auroc, n1, n0) for n1, n0 in counts]
    of_seeds = assumed.seed_sd**2 / seeds

    def shown(between_arms: float) -> float:
        # both arms have the same variance V: that of their difference is 2 (1 - rho) V
        differences = [2 * (1 - between_arms) * V for V in of_labels]
        V = mean_variance(differences, assumed.labels_correlation)  # noqa: N806 - the paper's
        nu = (V + of_seeds) / (V / (n - 1) + of_seeds / (seeds - 1))
        t = float(stdtrit(nu, 1 - assumed.alpha / (2 * tests)) + stdtrit(nu, assumed.power))
        return t * math.sqrt(V + of_seeds)

    weaker, stronger = assumed.arms_correlation
    return shown(stronger), shown(weaker)


def no_verdict(labels: Sequence[LabelCounts], seeds: int) -> str | None:
    """Why evaluation will give no verdict on the mean over `labels`, if it will not."""
    if not labels:
        return "no label has enough patients with and without it on every test set"
    if not all(c.estimable for c in labels):
        return "it has only one class of a label of the mean"
    if seeds < 2:  # noqa: PLR2004 - one seed shows nothing of a method
        return "one training seed shows nothing of a method"
    n = max(min(c.positive_patients, c.negative_patients) for c in labels)
    if n < FEWEST_PATIENTS:
        return (
            f"fewer than {FEWEST_PATIENTS} patients are in the rarer class of every averaged label"
        )
    return None


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
