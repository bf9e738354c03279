"""Which labels a macro AUROC is the mean over: the same on every test set, by the truth alone."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from services.evaluation.statistics.cases import UNKNOWN, Cases, LabelCases


@dataclass(frozen=True)
class Averaged:
    """The `labels` of the mean, in their order; `left_out` says why each other one is not."""

    labels: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict[str, str])


def averaged_over(
    tests: Mapping[str, Cases], wanted: Collection[str] | None, fewest: int
) -> Averaged:
    """The labels of `wanted` (None: all) with `fewest` patients of each class on every test set."""
    left_out: dict[str, str] = {}
    labels = list(dict.fromkeys(label for cases in tests.values() for label in cases.labels))
    for label in labels:
        if wanted is not None and label not in wanted:
            left_out[label] = "not asked for"
            continue
        reasons = [reason for test, cases in tests.items() for reason in _lacks(test, cases, label)]
        short = [reason for reason in reasons if reason[0] < fewest]
        if short:
            left_out[label] = "; ".join(words for _, words in short)
    return Averaged(tuple(label for label in labels if label not in left_out), left_out)


def _lacks(test: str, cases: Cases, label: str) -> Iterator[tuple[int, str]]:
    """How many patients of each class there are, and that in words."""
    of: LabelCases | None = None
    if label in cases.labels:
        of = cases.by_label[cases.labels.index(label)]
    for count, words in ((of.I1 if of else 0, "with it"), (of.I0 if of else 0, "without it")):
        patients = "1 patient" if count == 1 else f"{count} patients"
        yield count, f"{patients} {words} on {test}"


def complements(cases: Cases, labels: Collection[str]) -> list[tuple[str, str]]:
    """Pairs of labels of which each is present just where the other is absent: one fact twice."""
    columns = [(label, column) for column, label in enumerate(cases.labels) if label in labels]
    return [
        (first, second)
        for place, (first, i) in enumerate(columns)
        for second, j in columns[place + 1 :]
        if _complementary(cases.truth[:, i], cases.truth[:, j])
    ]


def _complementary(a: np.ndarray, b: np.ndarray) -> bool:
    known = (a != UNKNOWN) | (b != UNKNOWN)
    return bool(known.any() and (a[known] + b[known] == 1).all())
