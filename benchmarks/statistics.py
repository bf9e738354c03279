"""Time of the clustered, paired analysis, and its ratio to a cluster bootstrap of the same size.

Run from the repository's root: `python -m benchmarks.statistics [--images 100000]`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from uuid import UUID

import numpy as np
import polars as pl

from api_schemas.base import DatasetRef
from api_schemas.evaluation import PlannedArm, PlannedTest, PlanPost
from services.evaluation.statistics.analysis import estimate, result_rows
from services.evaluation.statistics.cases import UNKNOWN, Cases, Floats, Ints
from services.evaluation.statistics.groups import Grouping, attributes_of, groups_of
from services.evaluation.statistics.inference import auroc_inference, difference_inference
from services.evaluation.statistics.influence import label_aurocs, macro, placements

PREVALENCE, MISSING = 0.1, 0.3
SMALL = 3000
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


def bootstrap_replicate(
    cases: Cases, scores: list[Floats], rows_of: list[Ints], rng: np.random.Generator
) -> float:
    """The difference in macro AUROC on patients drawn with replacement, by the same sort."""
    drawn = rng.integers(0, cases.G, cases.G)
    rows = np.concatenate([rows_of[g] for g in drawn])
    truth = cases.truth[rows]
    macros: list[float] = []
    for s in scores:
        aurocs: list[float] = []
        for column in range(len(cases.labels)):
            known = truth[:, column] != UNKNOWN
            aurocs.append(placements(truth[known, column] == 1, s[rows, column][known])[0])
        macros.append(float(np.mean(aurocs)))
    return macros[0] - macros[1]


def images_of_patients(cases: Cases) -> list[Ints]:
    return np.split(np.arange(len(cases.patient)), np.cumsum(np.bincount(cases.patient))[:-1])


def agreement(labels: int) -> tuple[float, float]:
    """The standard deviation of the paired difference in macro AUROC: ours, the bootstrap's."""
    cases, scores = test_set(SMALL, labels, seed=1)
    ours, theirs = (macro(cases, label_aurocs(cases, s)) for s in scores)
    assert ours is not None  # noqa: S101 - a tenth of hundreds of patients
    assert theirs is not None  # noqa: S101 - likewise
    rng, rows_of = np.random.default_rng(0), images_of_patients(cases)
    drawn = [bootstrap_replicate(cases, scores, rows_of, rng) for _ in range(REPLICATES)]
    return (ours - theirs).test_sd, float(np.std(drawn, ddof=1))


def everything(cases: Cases, scores: list[Floats]) -> int:
    """A test set of two arms as an evaluation measures it, groups and metrics included; lines."""
    images = range(len(cases.patient))
    manifest = pl.DataFrame(
        {
            "sample_id": [str(i) for i in images],
            "sex": [("Female", "Male")[g % 2] for g in cases.patient],
            "age": [20 + int(g) % 70 for g in cases.patient],
            "race": [("White", "Asian", "African American")[g % 3] for g in cases.patient],
            "ethnicity": [("Hispanic or Latino", None)[g % 2] for g in cases.patient],
            "view": [("AP", "PA")[i % 2] for i in images],
            "site": ["a"] * len(images),
        }
    )
    attributes = attributes_of(manifest, np.array([str(i) for i in images]))
    groups = groups_of({"t": Grouping(attributes, cases.patient)})["t"]
    plan = PlanPost(
        experiment=UUID(int=1),
        name="benchmark",
        arms=[PlannedArm(name="0"), PlannedArm(name="1")],
        seeds=[0],
        tests=[PlannedTest(name="t", data=DatasetRef(dataset=UUID(int=2)), split="test")],
        reference="0",
        primary="1",
        margin=0.005,
    )
    found = estimate(plan, "t", cases, lambda arm, _: scores[int(arm)], groups)
    return len(result_rows(plan, [found])) + len(found.lines)


def median_seconds(call: Callable[[], object], times: int) -> float:
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
    rows_of, rng = images_of_patients(cases), np.random.default_rng(0)

    ours = median_seconds(lambda: analysis(cases, scores), times=5)
    replicate = median_seconds(lambda: bootstrap_replicate(cases, scores, rows_of, rng), times=3)
    print(
        f"{len(cases.patient)} images of {cases.G} patients, {given.labels} labels, 2 models,"
        f" intervals clustered by patient and paired differences: {ours:.2f} s (median of 5)"
    )
    print(
        f"cluster bootstrap of {REPLICATES} replicates: {replicate * REPLICATES:.0f} s"
        f" (extrapolated from 3 replicates of {replicate:.2f} s)"
    )
    print(f"ratio bootstrap / influence function: {replicate * REPLICATES / ours:.0f}")
    our_sd, bootstrap_sd = agreement(given.labels)
    print(
        f"sd of the paired difference in macro AUROC, {SMALL} images: {our_sd:.5f};"
        f" of {REPLICATES} replicates {bootstrap_sd:.5f}, whose own error is"
        f" {bootstrap_sd / (2 * REPLICATES) ** 0.5:.5f}"
    )
    started = time.perf_counter()
    lines = everything(cases, scores)
    print(
        f"all metrics and groups of the {len(cases.patient)} images, 2 models, {lines} lines:"
        f" {time.perf_counter() - started:.1f} s"
    )


if __name__ == "__main__":
    main()
