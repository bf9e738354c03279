"""An estimate with its influence per patient, and the linear algebra of such estimates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from services.evaluation.statistics.cases import Floats

ROUNDING = 1e-24
"""A variance below this is floating-point noise around zero: AUROCs are ratios of counts."""

NO_INFLUENCE = 1e-12
"""Of the largest one: a patient's influence below this is floating-point noise around zero."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A quantity measured on one test set with R training seeds.

    `values` holds it for each seed, `runs` the influence of each patient on each. `fewest`
    counts the patients of the rarer class of the rarest label that took part, `together` those
    of the rarer class over all its labels (the same for a single label). Sums, differences and
    means combine them all, so every linear target has its variance at hand. `exact`: every pair was
    ranked right (or wrong), or in what is subtracted; the variance of that is not zero as it seems.
    """

    values: Floats  # (R,)
    runs: Floats  # (R, G)
    fewest: int
    together: int
    exact: bool = False

    @classmethod
    def of_run(
        cls, value: float, Phi: Floats, fewest: int, together: int, *, exact: bool = False
    ) -> "Estimate":
        """Of a single training run; `Phi` (G,) is the influence of each patient."""
        return cls(np.array([value]), Phi[None, :], fewest, together, exact)

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
    def Phi(self) -> Floats:  # (G,)
        """The influence of each patient on the mean over the seeds."""
        return self.runs.mean(axis=0)

    @cached_property
    def _observed_patients(self) -> float:
        """A = sum_g Phi_g^2: patients, and 1/R of what is the patients' and the seeds' together."""
        return float(self.Phi @ self.Phi)

    @cached_property
    def _observed_seeds(self) -> float:
        """B = s^2 / R: seeds, and 1/R of what is both; zero with one seed, where it is unknown."""
        return float(self.values.var(ddof=1)) / self.R if self.R > 1 else 0.0

    @cached_property
    def V_both(self) -> float:
        """C = sum_r sum_g (Phi_rg - Phi_g)^2 / (R (R - 1)), which is in A and in B."""
        if self.R == 1:
            return 0.0
        own = self.runs - self.Phi
        return float(np.vdot(own, own)) / (self.R * (self.R - 1))

    @cached_property
    def V_patients(self) -> float:
        """The patients' own part: A - C, at least zero."""
        return max(self._observed_patients - self.V_both, 0.0)

    @cached_property
    def V_seeds(self) -> float:
        """The seeds' own part: B - C, at least zero."""
        return max(self._observed_seeds - self.V_both, 0.0)

    @cached_property
    def V(self) -> float | None:
        """V = A + B - C, at least A; None if one patient holds a whole class, or nothing varies."""
        V = max(self.V_patients + self._observed_seeds, self._observed_patients)
        return V if self.fewest > 1 and V > ROUNDING else None

    @property
    def test_sd(self) -> float:
        """What another test set would bring: sqrt(A)."""
        return math.sqrt(self._observed_patients)

    @property
    def seed_sd(self) -> float | None:
        """What another training seed would bring: s; unknown with one."""
        return float(self.values.std(ddof=1)) if self.R > 1 else None

    @cached_property
    def nu(self) -> float | None:
        """Degrees of freedom: 1/nu = (1 - b)^k / nu_P + b^k / (R - 1), b = B/V, k = 2 - 2/R.

        Satterthwaite's has k = 2 (and Hillis's, Stat. Med. 26:596, 2007, leaves out nu_P); two or
        three seeds that happen to agree then call too much significant. With k = 1 many seeds call
        too little so.
        """
        V = self.V
        if V is None:
            return None
        b, k = min(self._observed_seeds / V, 1.0), 2 - 2 / self.R
        patients = (1 - b) ** k / self._nu_patients if b < 1 else 0.0
        seeds = b**k / (self.R - 1) if self.R > 1 else 0.0
        return 1 / (patients + seeds)

    @property
    def _nu_patients(self) -> float:
        """nu_P = 2 / (1/K - 1/G) for the K = `carriers` of G patients, within 1 and the patients of
        the rarer class less one: the kurtosis of Phi says how well a sum of its squares is known.
        """
        size = np.abs(self.Phi)
        taking_part = int(np.count_nonzero(size > NO_INFLUENCE * size.max()))
        most = max(1.0, min(self.together, taking_part) - 1.0)
        excess = 1 / self.carriers - 1 / taking_part
        return max(1.0, 2 / excess) if excess * most > 2 else most  # noqa: PLR2004 - else above it

    @cached_property
    def carriers(self) -> float:
        """As many patients as would carry the variance if each had an equal part of it:
        K = (sum Phi^2)^2 / sum Phi^4.
        """
        squared = self.Phi * self.Phi
        fourth = float(squared @ squared)
        return self._observed_patients**2 / fourth if fourth > 0 else 0.0


def combine(weights: Sequence[float], estimates: Sequence[Estimate]) -> Estimate:
    """The weighted sum of estimates on the same patients with the same seeds in the same order."""
    values = sum(w * e.values for w, e in zip(weights, estimates, strict=True))
    runs = sum(w * e.runs for w, e in zip(weights, estimates, strict=True))
    exact = any(e.exact for e in estimates)
    return Estimate(np.asarray(values), np.asarray(runs), *_patients(estimates), exact)


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Summed before it is divided, so that the mean of ones is exactly one."""
    count = len(estimates)
    whole = combine([1.0] * count, estimates)
    exact = all(e.exact for e in estimates)
    return replace(whole, values=whole.values / count, runs=whole.runs / count, exact=exact)


def over_seeds(runs: Sequence[Estimate]) -> Estimate:
    """One estimate of R runs that differ in the training seed."""
    values = np.concatenate([run.values for run in runs])
    return Estimate(
        values,
        np.concatenate([run.runs for run in runs]),
        *_patients(runs),
        all(run.exact for run in runs),
    )


def _patients(estimates: Sequence[Estimate]) -> tuple[int, int]:
    """`fewest` and `together` of a combination, never more than those of its parts."""
    return min(e.fewest for e in estimates), min(e.together for e in estimates)
