"""The macro AUROC that chooses a checkpoint; intervals and tests are evaluation's."""

import numpy as np
from numpy.typing import NDArray

from services.training.ports.engine import UNKNOWN


def auroc(truth: NDArray[np.bool_], score: NDArray[np.floating]) -> float | None:
    """The Mann-Whitney statistic with midranks; null unless both classes are there."""
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return None
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    midranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # from 1
    above = midranks[truth].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def macro_auroc(targets: NDArray[np.int8], scores: NDArray[np.floating]) -> float | None:
    """The unweighted mean over the labels with both classes; `targets` and `scores` (n, L)."""
    values: list[float] = []
    for target, score in zip(targets.T, scores.T, strict=True):
        known = target != UNKNOWN
        value = auroc(target[known] == 1, score[known])
        if value is not None:
            values.append(value)
    return float(np.mean(values)) if values else None
