"""What the test sets know of each label: images and patients with and without it, and which labels
a mean will be over. Evaluation finds the same from the truth that comes with the predictions.
"""

from collections.abc import Iterator, Sequence
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
    """The labels of the mean (of `wanted`; None: all), and why each of the others is not in it."""
    left_out: dict[Finding, str] = {}
    for test in tests:
        for counts in test.labels:
            if wanted is not None and counts.label not in wanted:
                left_out[counts.label] = "not asked for"
            elif words := "; ".join(_too_few(test.name, counts, fewest)):
                before = left_out.get(counts.label)
                left_out[counts.label] = words if before is None else f"{before}; {words}"
    labels = [counts.label for counts in tests[0].labels]
    return [label for label in labels if label not in left_out], left_out


def _too_few(test: str, counts: LabelCounts, fewest: int) -> Iterator[str]:
    for number, words in (
        (counts.positive_patients, "with it"),
        (counts.negative_patients, "without it"),
    ):
        if number < fewest:
            yield f"{number} patient{'' if number == 1 else 's'} {words} on {test}"


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
