"""An estimate with its influence per patient, and the linear algebra of such estimates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from services.evaluation.statistics.cases import Floats

ROUNDING = 1e-24
"""A variance below this is floating-point noise around zero: AUROCs are ratios of counts."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A quantity measured on one test set with R training seeds.

    `values` holds it for each seed, `Phi` the influence of each patient on their mean. `fewest`
    counts the patients of the rarer class of the rarest label that took part, `together` those
    of the rarer class over all its labels (the same for a single label). Sums, differences and
    means combine them all, so every linear target has its variance at hand. `exact`: every pair was
    ranked right (or wrong), or in what is subtracted; the variance of that is not zero as it seems.
    """

    values: Floats  # (R,)
    Phi: Floats  # (G,)
    fewest: int
    together: int
    exact: bool = False

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The paired difference: same patients, and seed r of one beside seed r of the other."""
        return combine([1.0, -1.0], [self, other])

    @property
    def value(self) -> float:
        return float(self.values.mean())

    @property
    def R(self) -> int:
        return len(self.values)

    @cached_property
    def V_patients(self) -> float:
        """The patients' part: sum Phi^2."""
        return float(self.Phi @ self.Phi)

    @cached_property
    def V_seeds(self) -> float:
        """The seeds' part: s^2 / R; zero with one seed, where it is unknown."""
        return float(self.values.var(ddof=1)) / self.R if self.R > 1 else 0.0

    @cached_property
    def V(self) -> float | None:
        """V = sum Phi^2 + s^2 / R; None if one patient holds a whole class, or nothing varies."""
        V = self.V_patients + self.V_seeds
        return V if self.fewest > 1 and V > ROUNDING else None

    @property
    def test_sd(self) -> float:
        """What another test set would bring: sqrt(sum Phi^2)."""
        return math.sqrt(self.V_patients)

    @property
    def seed_sd(self) -> float | None:
        """What another training seed would bring: s; unknown with one."""
        return float(self.values.std(ddof=1)) if self.R > 1 else None

    @cached_property
    def nu(self) -> float | None:
        """Degrees of freedom: the harmonic mean of nu_P and R - 1, weighted by variance.

        1/nu = (sum Phi^2 / nu_P + s^2/R / (R - 1)) / V. Satterthwaite weights by the squares of
        the variances, and then two or three seeds that happen to agree call too much significant.
        """
        V = self.V
        if V is None:
            return None
        patients = self.V_patients / self._nu_patients if self.V_patients > 0 else 0.0
        seeds = self.V_seeds / (self.R - 1) if self.R > 1 else 0.0
        return V / (patients + seeds)

    @property
    def _nu_patients(self) -> float:
        """nu_P = (sum Phi^2)^2 / sum Phi^4, within 1 and the patients of the rarer class less one.

        Of two or three patients the formula alone may find as many degrees as there are patients.
        """
        squared = self.Phi * self.Phi
        spread = self.V_patients**2 / float(squared @ squared)
        return max(1.0, min(spread, self.together - 1))


def combine(weights: Sequence[float], estimates: Sequence[Estimate]) -> Estimate:
    """The weighted sum of estimates on the same patients with the same seeds in the same order."""
    values = sum(w * e.values for w, e in zip(weights, estimates, strict=True))
    Phi = sum(w * e.Phi for w, e in zip(weights, estimates, strict=True))
    exact = any(e.exact for e in estimates)
    return Estimate(np.asarray(values), np.asarray(Phi), *_patients(estimates), exact)


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Summed before it is divided, so that the mean of ones is exactly one."""
    count = len(estimates)
    whole = combine([1.0] * count, estimates)
    exact = all(e.exact for e in estimates)
    return replace(whole, values=whole.values / count, Phi=whole.Phi / count, exact=exact)


def over_seeds(runs: Sequence[Estimate]) -> Estimate:
    """One estimate of R runs that differ in the training seed: phi = mean phi_r."""
    values = np.concatenate([run.values for run in runs])
    Phi = np.mean([run.Phi for run in runs], axis=0)
    return Estimate(values, Phi, *_patients(runs), all(run.exact for run in runs))


def _patients(estimates: Sequence[Estimate]) -> tuple[int, int]:
    """`fewest` and `together` of a combination, never more than those of its parts."""
    return min(e.fewest for e in estimates), min(e.together for e in estimates)
