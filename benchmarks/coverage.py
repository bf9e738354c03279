"""Whether 95 % intervals cover in 95 % of simulated studies, and how often no effect is one.

Run from the repository's root: `python -m benchmarks.coverage [--runs 400] [--processes 2]`. More
runs take longer and say more: the Monte-Carlo error of a line is printed with it.
"""

import argparse
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from api_schemas.evaluation import Metric
from services.evaluation.statistics.analysis import ALPHA
from services.evaluation.statistics.cases import Cases, Floats, Ints, LabelCases
from services.evaluation.statistics.estimate import Estimate, over_seeds
from services.evaluation.statistics.inference import (
    FEWEST_FOR_P,
    Inference,
    auroc_inference,
    difference_inference,
)
from services.evaluation.statistics.influence import auroc, label_aurocs, macro
from services.evaluation.statistics.lines import is_few, level_inference
from services.evaluation.statistics.measures import OF_A_LABEL, OF_PROBABILITIES, Measure
from services.evaluation.statistics.operating import break_even, missed

PATIENTS = (200, 1000, 5000)
PREVALENCES = (0.02, 0.05, 0.20)
IMAGES = (1, 6)
AUROCS = (0.60, 0.80, 0.97)
SHARED = 0.7
"""Of the scores' variance within a class, what images of one patient have in common."""
ASKED = (0.935, 0.97)
LABELS = 14
SEEDS = (2, 3, 5, 10)
SPREADS = (0.02, 0.05, 0.15)
"""Of the weights between training seeds, in studies without an effect."""
FEATURES = 12
COMMON = 0.2
"""Prevalence in the studies without an effect."""


class Label(NamedTuple):
    """A label on test sets of so many patients, with 1 to `images` images each."""

    patients: int
    prevalence: float
    images: int
    auroc: float


@dataclass
class Count:
    """Of `runs`, how many gave an interval, and a right one; how many carried a flag; the values,
    and the widths of the intervals.
    """

    runs: int = 0
    given: int = 0
    covered: int = 0
    flagged: int = 0
    values: list[float] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)

    @property
    def width(self) -> float:
        """How wide on average, in widths of the interval of one who knows the variance."""
        sd = float(np.std(self.values))
        return float(np.mean(self.widths)) / (2 * float(norm.ppf(0.975)) * sd)

    def add(self, E: Estimate | None, said: Inference | None, truth: float) -> None:
        self.runs += 1
        self.flagged += is_flagged(E, said)
        if said is not None and said.low is not None and said.high is not None:
            self.given += 1
            self.values.append(said.value)
            self.widths.append(said.high - said.low)
            self.covered += said.low <= truth <= said.high


def is_flagged(E: Estimate | None, said: Inference | None) -> bool:
    """Whether the row would warn of few patients or degrees of freedom, or gives no estimate."""
    if E is None or said is None or said.nu is None:
        return True
    return E.fewest < FEWEST_FOR_P or is_few(said)


# ---------------------------------------------------------------- intervals of one label


def label_coverage(cell: Label, runs: int) -> tuple[Count, Count]:
    """Of the AUROC of a label, and of the paired difference of two models that are as good."""
    rng = np.random.default_rng([*map(ord, repr(cell))])
    level, difference = Count(), Count()
    for _ in range(runs):
        patient = images_of(rng, cell.patients, cell.images)
        truth = (rng.random(cell.patients) < cell.prevalence)[patient].astype(np.int8)[:, None]
        cases = Cases(("x",), truth, patient, cell.patients)
        ours, theirs = two_models(rng, cases, cell.auroc)
        A = auroc(cases.by_label[0], ours[:, 0])
        B = auroc(cases.by_label[0], theirs[:, 0])
        D = None if A is None or B is None else A - B
        level.add(A, A and auroc_inference(A), cell.auroc)
        difference.add(D, D and difference_inference(D), 0.0)
    return level, difference


def macro_coverage(cell: Label, runs: int) -> tuple[Count, Count]:
    """The same of the mean over 14 labels, a third of whose truths are unknown."""
    rng = np.random.default_rng([LABELS, *map(ord, repr(cell))])
    level, difference = Count(), Count()
    for _ in range(runs):
        patient = images_of(rng, cell.patients, cell.images)
        truth = (rng.random((cell.patients, LABELS)) < cell.prevalence)[patient].astype(np.int8)
        cases = Cases(tuple(map(str, range(LABELS))), truth, patient, cell.patients)
        ours, theirs = two_models(rng, cases, cell.auroc)
        truth[rng.random(truth.shape) < 1 / 3] = -1
        A, B = (macro(cases, label_aurocs(cases, s)) for s in (ours, theirs))
        D = None if A is None or B is None else A - B
        level.add(A, A and auroc_inference(A), cell.auroc)
        difference.add(D, D and difference_inference(D), 0.0)
    return level, difference


def images_of(rng: np.random.Generator, patients: int, most: int) -> Ints:
    return np.repeat(np.arange(patients), rng.integers(1, most + 1, patients))


def two_models(rng: np.random.Generator, cases: Cases, level: float) -> list[Floats]:
    """Scores whose AUROC is `level` for both, alike within a patient and between the models."""
    shape, d = cases.truth.shape, math.sqrt(2) * float(norm.ppf(level))
    common = clustered(rng, cases, shape[1])
    return [
        d * cases.truth + math.sqrt(0.7) * common + math.sqrt(0.3) * clustered(rng, cases, shape[1])
        for _ in range(2)
    ]


def clustered(rng: np.random.Generator, cases: Cases, columns: int) -> Floats:
    """Standard normal noise of which `SHARED` is the patient's."""
    own = rng.normal(size=(len(cases.patient), columns))
    theirs = rng.normal(size=(cases.G, columns))[cases.patient]
    return math.sqrt(SHARED) * theirs + math.sqrt(1 - SHARED) * own


# ---------------------------------------------------------------- what else is measured

LARGE = 400_000
"""Patients of the test set whose metrics count as the truth."""


def missed_of_all(cases: LabelCases, score: Floats) -> Estimate | None:
    cut = break_even(cases, score)
    return cut and missed(cases, score, cut, np.ones(len(score), np.bool_))


MEASURED: Mapping[Metric, Measure] = {**OF_A_LABEL, **OF_PROBABILITIES, "missed": missed_of_all}


def metric_coverage(cell: Label, runs: int) -> dict[Metric, Count]:
    """Of every metric beside AUROC, of a model whose scores are probabilities."""
    rng = np.random.default_rng([*map(ord, repr(cell))])
    large, score = probabilities(rng, cell._replace(patients=LARGE, images=1))
    counts = {name: Count() for name in MEASURED}
    truth = {name: measure(large, score) for name, measure in MEASURED.items()}
    for _ in range(runs):
        cases, score = probabilities(rng, cell)
        for name, measure in MEASURED.items():
            E, true = measure(cases, score), truth[name]
            assert true is not None  # noqa: S101 - of so many patients
            counts[name].add(E, E and level_inference(name, E), true.value)
    return counts


def probabilities(rng: np.random.Generator, cell: Label) -> tuple[LabelCases, Floats]:
    """A label, and the chance that an image has it given a normal score of its AUROC."""
    patient = images_of(rng, cell.patients, cell.images)
    truth = (rng.random(cell.patients) < cell.prevalence)[patient].astype(np.int8)[:, None]
    cases = Cases(("x",), truth, patient, cell.patients)
    d = math.sqrt(2) * float(norm.ppf(cell.auroc))
    s = d * truth + clustered(rng, cases, 1)
    return cases.by_label[0], expit(logit(cell.prevalence) + d * s - d * d / 2)[:, 0]


# ---------------------------------------------------------------- tests without an effect


class Null(NamedTuple):
    """Two arms that differ by the seed alone, which spreads their weights by so much."""

    patients: int
    seeds: int
    spread: float


class Rejected(NamedTuple):
    """Studies that find an effect at 5 %, with the seeds' variance and without; and the ratio of
    what another seed brings to what another test set brings.
    """

    aware: int
    blind: int
    ratio: float


def rejections(cell: Null, runs: int) -> Rejected:
    rng = np.random.default_rng([*map(ord, repr(cell))])
    aware = blind = 0
    seeds = tests = 0.0
    for _ in range(runs):
        D = study(rng, cell.patients, cell.seeds, cell.spread)
        of_patients = Estimate.of_run(D.value, D.Phi, D.fewest, D.together)
        aware += (difference_inference(D).p or 1.0) < ALPHA
        blind += (difference_inference(of_patients).p or 1.0) < ALPHA
        seeds += (D.seed_sd or 0.0) ** 2
        tests += D.test_sd**2
    return Rejected(aware, blind, math.sqrt(seeds / tests))


def study(rng: np.random.Generator, patients: int, seeds: int, spread: float) -> Estimate:
    """Macro AUROC of two arms of the same method, trained with so many seeds, on a new test set."""
    patient = images_of(rng, patients, 6)
    truth = (rng.random((patients, 2)) < COMMON)[patient].astype(np.int8)
    return _difference(rng, Cases(("a", "b"), truth, patient, patients), seeds, spread)


def _difference(rng: np.random.Generator, cases: Cases, seeds: int, spread: float) -> Estimate:
    labels = len(cases.labels)
    x = clustered(rng, cases, FEATURES)
    x[:, :labels] += 1.2 * cases.truth
    right = np.eye(FEATURES)[:, :labels]
    arms = [
        over_seeds(
            [_run(cases, x, right + spread * rng.normal(size=right.shape)) for _ in range(seeds)]
        )
        for _ in range(2)
    ]
    return arms[0] - arms[1]


def _run(cases: Cases, x: Floats, weights: Floats) -> Estimate:
    found = macro(cases, label_aurocs(cases, x @ weights))
    assert found is not None  # noqa: S101 - patients have each label of the mean
    return found


# ---------------------------------------------------------------- rare labels

SPARSE_LABELS = 4
SPARSE_PATIENTS = 150
MOST_POSITIVE = 5


class Sparse(NamedTuple):
    """A study of four labels that 1 to 5 patients of 150 have, without an effect."""

    seeds: int
    spread: float


def sparse_coverage(cell: Sparse, runs: int) -> Count:
    """Of the registered difference, in studies with two labels of two patients of each class."""
    rng = np.random.default_rng([*map(ord, repr(cell))])
    count = Count()
    while count.runs < runs:
        patient = images_of(rng, SPARSE_PATIENTS, 3)
        truth = np.zeros((SPARSE_PATIENTS, SPARSE_LABELS), np.int8)
        for label in range(SPARSE_LABELS):
            some = rng.integers(1, MOST_POSITIVE + 1)
            truth[rng.choice(SPARSE_PATIENTS, some, replace=False), label] = 1
        cases = Cases(tuple(map(str, range(SPARSE_LABELS))), truth[patient], patient, len(truth))
        if len(cases.averaged) > 1:
            D = _difference(rng, cases, cell.seeds, cell.spread)
            count.add(D, difference_inference(D), 0.0)
    return count


# ---------------------------------------------------------------- the tables


def verdict(count: Count) -> str:
    """A cell holds if its intervals cover as they should; if they do not, a flag must say so."""
    if not count.given:
        return "none given"
    share = count.covered / count.given
    if ASKED[0] <= share <= ASKED[1]:
        return "holds"
    if count.flagged > count.runs / 2:
        return "flagged"
    error = 2 * math.sqrt(0.05 * 0.95 / count.given)
    return "within error" if ASKED[0] - error <= share <= ASKED[1] + error else "FAILS"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def _cells(count: Count) -> str:
    covered = _share(count.covered, count.given)
    width = f"{count.width:.2f}" if count.given else "-"
    return f"{covered} | {width} | {_share(count.flagged, count.runs)} | {verdict(count)}"


def label_cells() -> list[Label]:
    every = itertools.product(PATIENTS, PREVALENCES, IMAGES, AUROCS)
    return [Label(*each) for each in every]


def macro_cells() -> list[Label]:
    return [Label(*each) for each in itertools.product((200, 1000), (0.02, 0.2), (6,), (0.8, 0.97))]


def metric_cells() -> list[Label]:
    return [
        Label(*each)
        for each in (
            (200, 0.2, 6, 0.8),
            (1000, 0.05, 6, 0.8),
            (1000, 0.2, 6, 0.95),
            (5000, 0.05, 6, 0.9),
        )
    ]


def null_cells() -> list[Null]:
    return [Null(*each) for each in itertools.product((300, 2000), SEEDS, SPREADS)]


def intervals(
    title: str, cells: Sequence[Label], found: Sequence[tuple[Count, Count]]
) -> Iterator[str]:
    """A table: of intervals, how many cover, in percent, and how wide they are; lines that carry a
    flag, in percent.
    """
    yield f"\n{title}\n"
    of = "covered | width | flagged | verdict"
    yield f"| patients | prevalence | images | AUROC | {of} | difference: {of} |"
    yield "|" + "---|" * 12
    for cell, (level, difference) in zip(cells, found, strict=True):
        images = "1" if cell.images == 1 else f"1-{cell.images}"
        yield (
            f"| {cell.patients} | {cell.prevalence:.0%} | {images} | {cell.auroc:.2f} |"
            f" {_cells(level)} | {_cells(difference)} |"
        )


def metrics(cells: Sequence[Label], found: Sequence[Mapping[Metric, Count]]) -> Iterator[str]:
    yield "\nOther metrics: covered, in percent (and flagged)\n"
    columns = [f"{c.patients}, {c.prevalence:.0%}, {c.auroc:.2f}" for c in cells]
    yield f"| patients, prevalence, AUROC | {' | '.join(columns)} |"
    yield "|" + "---|" * (1 + len(columns))
    for name in MEASURED:
        counts = [of[name] for of in found]
        shares = [f"{_share(c.covered, c.given)} ({_share(c.flagged, c.runs)})" for c in counts]
        yield f"| {name} | {' | '.join(shares)} |"


def tests(cells: Sequence[Null], found: Sequence[Rejected], runs: int) -> Iterator[str]:
    yield "\nEffects found where there is none, % of studies at p < .05\n"
    yield "| patients | seeds | sd of a seed / of the test set | seed-aware | patients alone |"
    yield "|---|---|---|---|---|"
    for cell, of in zip(cells, found, strict=True):
        yield (
            f"| {cell.patients} | {cell.seeds} | {of.ratio:.1f} |"
            f" {_share(of.aware, runs)} | {_share(of.blind, runs)} |"
        )


def sparse_cells() -> list[Sparse]:
    return [Sparse(*each) for each in itertools.product(SEEDS, (0.05, 0.15))]


def sparse(cells: Sequence[Sparse], found: Sequence[Count]) -> Iterator[str]:
    yield "\nFour labels of 1 to 5 patients, no effect: intervals of the difference, in percent\n"
    yield "| seeds | spread of a seed | given | covered | flagged |"
    yield "|---|---|---|---|---|"
    for cell, of in zip(cells, found, strict=True):
        yield (
            f"| {cell.seeds} | {cell.spread} | {_share(of.given, of.runs)} |"
            f" {_share(of.covered, of.given)} | {_share(of.flagged, of.runs)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    runs = given.runs
    labels, macros, nulls = label_cells(), macro_cells(), null_cells()
    with ProcessPoolExecutor(given.processes) as pool:
        of_labels = pool.map(label_coverage, labels, itertools.repeat(runs))
        of_macros = pool.map(macro_coverage, macros, itertools.repeat(runs))
        of_metrics = pool.map(metric_coverage, metric_cells(), itertools.repeat(runs))
        of_nulls = pool.map(rejections, nulls, itertools.repeat(runs))
        for line in intervals("One label", labels, list(of_labels)):
            print(line)
        for line in intervals(f"Mean over {LABELS} labels", macros, list(of_macros)):
            print(line)
        for line in metrics(metric_cells(), list(of_metrics)):
            print(line)
        for line in tests(nulls, list(of_nulls), runs):
            print(line)
        of_sparse = pool.map(sparse_coverage, sparse_cells(), itertools.repeat(runs))
        for line in sparse(sparse_cells(), list(of_sparse)):
            print(line)
    error = 100 * math.sqrt(0.05 * 0.95 / runs)
    print(f"\n{runs} runs a line; the Monte-Carlo error of 95 % is {error:.1f} (one sd).")


if __name__ == "__main__":
    main()
