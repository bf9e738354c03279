"""Time of the clustered, paired analysis, and its ratio to a cluster bootstrap of the same size.

Run from the repository's root: `python -m benchmarks.statistics [--images 100000]`.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from services.evaluation.statistics.cases import UNKNOWN, Cases, Floats
from services.evaluation.statistics.inference import auroc_inference, difference_inference
from services.evaluation.statistics.influence import label_aurocs, macro, placements

PREVALENCE, MISSING = 0.1, 0.3
REPLICATES = 1000
"""Replicates of a customary percentile bootstrap."""


def test_set(images: int, labels: int, seed: int) -> tuple[Cases, list[Floats]]:
    """About `images` images, 1-6 a patient, 30 % of the labels unknown; scores of two models."""
    rng = np.random.default_rng(seed)
    patients = round(images / 3.5)
    patient = np.repeat(np.arange(patients), rng.integers(1, 7, patients))
    truth = (rng.random((patients, labels)) < PREVALENCE)[patient].astype(np.int8)
    shared = truth + rng.normal(size=(patients, labels))[patient]
    scores = [shared + rng.normal(size=truth.shape) for _ in range(2)]
    truth[rng.random(truth.shape) < MISSING] = UNKNOWN
    return Cases(tuple(map(str, range(labels))), truth, patient, patients), scores


def analysis(cases: Cases, scores: list[Floats]) -> None:
    """Every label and the macro of both models with intervals, and the paired differences."""
    cases = Cases(cases.labels, cases.truth, cases.patient, cases.G)  # nothing cached
    by_model = [label_aurocs(cases, s) for s in scores]
    for model in by_model:
        model.append(macro(cases, model))
    for a, b in zip(*by_model, strict=True):
        if a is None or b is None:
            continue
        auroc_inference(a)
        auroc_inference(b)
        difference_inference(a - b)


def bootstrap_replicate(cases: Cases, scores: list[Floats], rows_of: list[Floats]) -> None:
    """AUROC of every label and both models on patients drawn with replacement, by the same sort."""
    drawn = np.random.default_rng(0).integers(0, cases.G, cases.G)
    rows = np.concatenate([rows_of[g] for g in drawn])
    truth = cases.truth[rows]
    for s in scores:
        for column in range(len(cases.labels)):
            known = truth[:, column] != UNKNOWN
            placements(truth[known, column] == 1, s[rows, column][known])


def median_seconds(call: Callable[[], None], times: int) -> float:
    took: list[float] = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=14)
    given = parser.parse_args()
    cases, scores = test_set(given.images, given.labels, seed=0)
    rows_of = np.split(np.arange(len(cases.patient)), np.cumsum(np.bincount(cases.patient))[:-1])

    ours = median_seconds(lambda: analysis(cases, scores), times=5)
    replicate = median_seconds(lambda: bootstrap_replicate(cases, scores, rows_of), times=3)
    print(
        f"{len(cases.patient)} images of {cases.G} patients, {given.labels} labels, 2 models,"
        f" intervals clustered by patient and paired differences: {ours:.2f} s (median of 5)"
    )
    print(
        f"cluster bootstrap of {REPLICATES} replicates: {replicate * REPLICATES:.0f} s"
        f" (extrapolated from 3 replicates of {replicate:.2f} s)"
    )
    print(f"ratio bootstrap / influence function: {replicate * REPLICATES / ours:.0f}")


if __name__ == "__main__":
    main()
