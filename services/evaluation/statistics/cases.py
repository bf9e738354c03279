"""The cases of a test set: who has which finding. Shared by every arm that is scored on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FEWEST_IN_MEAN = 2
"""Patients of either class of a label that a mean over labels needs: of one patient alone nothing
says how much another one would differ, and the whole mean would have no interval."""

DOMINANT_SHARE, DOMINANT_TIMES = 0.05, 5
"""One patient dominates who has at least this share of the images, and so many times the mean."""

UNKNOWN = -1
"""The truth of an image whose label is missing or uncertain."""


@dataclass(frozen=True)
class Counts:
    """What a number rests on; a mean over labels has no positives of its own. `dominated`: one
    patient has a large share of the images, of a label also of those with or without it.
    """

    images: int
    positives: int | None
    patients: int
    dominated: bool = False


@dataclass(frozen=True, eq=False)
class LabelCases:
    """The images of one label whose truth is known.

    `rows` index the test set's images; `y` is their truth and `patient` the code of the patient,
    one of `G`. `I1` and `I0` count the patients with at least one positive and one negative.
    """

    rows: Ints  # (n,)
    y: Bools  # (n,)
    patient: Ints  # (n,)
    G: int

    @cached_property
    def n1(self) -> int:
        return int(np.count_nonzero(self.y))

    @cached_property
    def n0(self) -> int:
        return len(self.y) - self.n1

    @cached_property
    def I1(self) -> int:
        return _distinct(self.patient[self.y], self.G)

    @cached_property
    def I0(self) -> int:
        return _distinct(self.patient[~self.y], self.G)

    @property
    def patients(self) -> int:
        return _distinct(self.patient, self.G)

    @cached_property
    def correction(self) -> Floats:  # (n,)
        """What each case's influence is multiplied by, for there are finitely many patients.

        c_g = sqrt((I - 1)/I) / (1 - n_g/n) for the n_g of n cases of a class that are patient g's:
        what leaving the patient out would show (the jackknife). With as many cases each it is
        sqrt(I/(I - 1)), and DeLong's with one case each.
        """
        ours, others = (self.corrected(self.y == each) for each in (True, False))
        return np.where(self.y, ours[self.patient], others[self.patient])

    def corrected(self, members: Bools) -> Floats:
        """The same by patient (G,), for `members` (n,) as a class; 1 where one patient has all of
        it, which `Estimate` knows.
        """
        n_g = np.bincount(self.patient[members], minlength=self.G)
        n, taking_part = n_g.sum(), np.count_nonzero(n_g)
        if taking_part <= 1:
            return np.ones(self.G)
        return math.sqrt((taking_part - 1) / taking_part) / (1 - n_g / n)

    @property
    def fewest(self) -> int:
        """Patients of the rarer class."""
        return min(self.I1, self.I0)

    @property
    def dominated(self) -> bool:
        """Whether one patient has a large share of the images of either class."""
        return dominates(self.patient[self.y]) or dominates(self.patient[~self.y])

    @property
    def bearers(self) -> Bools:  # (G,)
        """The patients of the rarer class."""
        return np.bincount(self.patient[self.y == (self.I1 <= self.I0)], minlength=self.G) > 0


@dataclass(frozen=True, eq=False)
class Cases:
    """N images of G patients with L labels. `truth` is 1, 0 or `UNKNOWN`. `mean_over` names the
    labels that a mean over labels takes; None: all that have `FEWEST_IN_MEAN` patients of each
    class.
    """

    labels: tuple[str, ...]
    truth: NDArray[np.int8]  # (N, L)
    patient: Ints  # (N,) codes 0..G-1
    G: int
    mean_over: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        labels: Sequence[str],
        truth: NDArray[np.int8],
        patient_ids: Sequence[str] | NDArray[np.str_],
    ) -> "Cases":
        """Cases from patient identifiers in any form."""
        if truth.shape != (len(patient_ids), len(labels)):
            msg = f"truth is {truth.shape}, not ({len(patient_ids)}, {len(labels)})"
            raise ValueError(msg)
        return cls(tuple(labels), truth, *numbered(patient_ids))

    def within(self, group: Bools) -> "Cases":
        """The same patients with only the images of `group` known.

        Ranks are then taken inside the group and every other patient's influence is zero, so
        that estimates of two groups can be subtracted.
        """
        truth = np.where(group[:, None], self.truth, np.int8(UNKNOWN))
        return Cases(self.labels, truth, self.patient, self.G, self.averaged)

    @cached_property
    def by_label(self) -> tuple[LabelCases, ...]:
        return tuple(self._label(column) for column in range(len(self.labels)))

    @cached_property
    def averaged(self) -> tuple[str, ...]:
        """The labels that a mean over labels takes, in the order of `labels`."""
        if self.mean_over is not None:
            return tuple(label for label in self.labels if label in self.mean_over)
        each = zip(self.labels, self.by_label, strict=True)
        return tuple(label for label, cases in each if cases.fewest >= FEWEST_IN_MEAN)

    @cached_property
    def together(self) -> int:
        """Patients who bear the rarer class of any label of the mean."""
        each = zip(self.labels, self.by_label, strict=True)
        bearers = [cases.bearers for label, cases in each if label in self.averaged]
        return int(np.count_nonzero(np.any(bearers, axis=0))) if bearers else 0

    @cached_property
    def counts(self) -> Counts:
        """Of the images with any label known."""
        rows = (self.truth != UNKNOWN).any(axis=1)
        taking_part = self.patient[rows]
        return Counts(
            len(taking_part), None, _distinct(taking_part, self.G), dominates(taking_part)
        )

    def counts_of(self, label: str) -> Counts:
        cases = self.by_label[self.labels.index(label)]
        return Counts(len(cases.rows), cases.n1, cases.patients, cases.dominated)

    def _label(self, column: int) -> LabelCases:
        truth = self.truth[:, column]
        rows = np.flatnonzero(truth != UNKNOWN)
        return LabelCases(rows, truth[rows] == 1, self.patient[rows], self.G)


def dominates(patient: Ints) -> bool:
    """Whether one patient has a large share of these images: `DOMINANT_SHARE` of them or more, and
    `DOMINANT_TIMES` as many as a patient has on average.
    """
    if not len(patient):
        return False
    images = np.bincount(patient)
    return is_dominant(int(images.max()), len(patient), int(np.count_nonzero(images)))


def is_dominant(most: int, images: int, patients: int) -> bool:
    """The same of so many `images` of so many `patients`, one of whom has `most` of them."""
    return most >= max(1, DOMINANT_SHARE * images) and most * patients >= DOMINANT_TIMES * images


def numbered(patient_ids: Sequence[str] | NDArray[np.str_]) -> tuple[Ints, int]:
    """A code 0..G-1 for each image's patient, by first appearance, and G.

    Not by name: pseudonyms differ between installations, and sums in another order differ in
    their last bits.
    """
    distinct, first, codes = np.unique(
        np.asarray(patient_ids), return_index=True, return_inverse=True
    )
    number = np.empty(len(distinct), np.int64)
    number[np.argsort(first)] = np.arange(len(distinct))
    return number[codes], len(distinct)


def _distinct(codes: Ints, G: int) -> int:
    return int(np.count_nonzero(np.bincount(codes, minlength=G)))
