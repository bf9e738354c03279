"""What the test sets know of each label: images and patients with and without it, and which labels
a mean will be over. Evaluation finds the same from the truth that comes with the predictions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from api_schemas.findings import Finding
from api_schemas.planning import LabelCounts
from services.training.ports.engine import UNKNOWN
from services.training.service.samples import Labels, Rows, Samples, Strings, columns, truth


@dataclass(frozen=True)
class TestCounts:
    """One test set; nothing of it names a patient."""

    __test__ = False  # not a test of pytest

    name: str
    images: int
    patients: int
    labels: list[LabelCounts]
    complements: list[tuple[Finding, Finding]]


def averaged(
    tests: Sequence[TestCounts], wanted: Sequence[Finding] | None, fewest: int
) -> tuple[list[Finding], dict[Finding, str]]:
    """The labels of the mean (of `wanted`; None: all), and why each of the others is not in it.

    A test set that has enough patients for none of them has no mean, and takes none from others.
    """
    labels = [counts.label for counts in tests[0].labels]
    asked = [label for label in labels if wanted is None or label in wanted]
    lacking = [
        {
            counts.label: words
            for counts in test.labels
            if counts.label in asked and (words := _too_few(test.name, counts, fewest))
        }
        for test in tests
    ]
    counting = [short for short in lacking if len(short) < len(asked)]
    left_out = {label: "not asked for" for label in labels if label not in asked}
    for label in asked:
        words = [short[label] for short in counting or lacking if label in short]
        if words:
            left_out[label] = "; ".join(words)
    return [label for label in labels if label not in left_out], left_out


def _too_few(test: str, counts: LabelCounts, fewest: int) -> str:
    """Which class of the label has too few patients, in words; blank if none."""
    of_classes = (
        (counts.positive_patients, "with it"),
        (counts.negative_patients, "without it"),
    )
    return "; ".join(
        f"{number} patient{'' if number == 1 else 's'} {words} on {test}"
        for number, words in of_classes
        if number < fewest
    )


def count(name: str, samples: Samples, rows: Rows, labels: list[Finding]) -> TestCounts:
    patients = samples.patients[rows]
    known = truth(samples.labels[rows])[:, columns(labels)]
    return TestCounts(
        name,
        len(rows),
        len(set(patients.tolist())),
        [_of_label(label, known[:, i], patients) for i, label in enumerate(labels)],
        [
            (labels[i], labels[j])
            for i, j in combinations(range(len(labels)), 2)
            if _complementary(known[:, i], known[:, j])
        ],
    )


def _complementary(a: Labels, b: Labels) -> bool:
    known = (a != UNKNOWN) | (b != UNKNOWN)
    return bool(known.any() and (a[known] + b[known] == 1).all())


def _of_label(label: Finding, known: Labels, patients: Strings) -> LabelCounts:
    positive, negative = known == 1, known == 0
    return LabelCounts(
        label=label,
        positives=int(np.count_nonzero(positive)),
        negatives=int(np.count_nonzero(negative)),
        positive_patients=len(set(patients[positive].tolist())),
        negative_patients=len(set(patients[negative].tolist())),
        estimable=bool(positive.any() and negative.any()),
    )
