"""Which labels a macro AUROC is the mean over: the same on every test set, by the truth alone."""

from collections.abc import Collection, Mapping
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
    """The labels of `wanted` (None: all) with `fewest` patients of each class on every test set.

    A test set on which that holds of none of them has no mean, and takes none from the others.
    """
    labels = list(dict.fromkeys(label for cases in tests.values() for label in cases.labels))
    asked = [label for label in labels if wanted is None or label in wanted]
    lacking = {
        test: {label: words for label in asked if (words := _lacks(test, cases, label, fewest))}
        for test, cases in tests.items()
    }
    counting = [short for short in lacking.values() if len(short) < len(asked)]
    left_out = {label: "not asked for" for label in labels if label not in asked}
    for label in asked:
        words = [short[label] for short in counting or lacking.values() if label in short]
        if words:
            left_out[label] = "; ".join(words)
    return Averaged(tuple(label for label in labels if label not in left_out), left_out)


def _lacks(test: str, cases: Cases, label: str, fewest: int) -> str:
    """Which class of the label has too few patients, in words; blank if none."""
    of: LabelCases | None = None
    if label in cases.labels:
        of = cases.by_label[cases.labels.index(label)]
    counts = ((of.I1 if of else 0, "with it"), (of.I0 if of else 0, "without it"))
    return "; ".join(
        f"{count} patient{'' if count == 1 else 's'} {words} on {test}"
        for count, words in counts
        if count < fewest
    )


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
