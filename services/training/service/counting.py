"""What a test set knows of each label: images and patients with and without it."""

from dataclasses import dataclass

import numpy as np

from api_schemas.findings import Finding
from api_schemas.planning import LabelCounts
from services.training.service.samples import Labels, Rows, Samples, Strings, columns, truth


@dataclass(frozen=True)
class TestCounts:
    """One test set; nothing of it names a patient."""

    __test__ = False  # not a test of pytest

    name: str
    images: int
    patients: int
    labels: list[LabelCounts]


def count(name: str, samples: Samples, rows: Rows, labels: list[Finding]) -> TestCounts:
    patients = samples.patients[rows]
    known = truth(samples.labels[rows])[:, columns(labels)]
    return TestCounts(
        name,
        len(rows),
        len(set(patients.tolist())),
        [_of_label(label, known[:, i], patients) for i, label in enumerate(labels)],
    )


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
