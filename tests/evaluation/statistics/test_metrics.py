"""What is measured beside AUROC: by its definition, and its variance by resampling patients."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import expit, logit

from services.evaluation.statistics.calibration import brier, intercept, slope
from services.evaluation.statistics.cases import Cases, LabelCases
from services.evaluation.statistics.estimate import Estimate
from services.evaluation.statistics.operating import (
    break_even,
    false_alarms,
    missed,
    sensitivity_at,
    specificity_at,
)
from services.evaluation.statistics.precision import average_precision

Metric = Callable[[LabelCases, np.ndarray], Estimate | None]


def label(y: np.ndarray, patient: np.ndarray | None = None) -> LabelCases:
    whose = np.arange(len(y)) if patient is None else patient
    return Cases(("x",), np.asarray(y, np.int8)[:, None], whose, int(whose.max()) + 1).by_label[0]


def clustered(patients: int = 400, seed: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, scores in (0, 1) and patients: 1-4 images each, which are alike."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    y = (rng.random(patients) < 0.3)[patient] ^ (rng.random(len(patient)) < 0.05)
    noise = rng.normal(size=patients)[patient] + 0.7 * rng.normal(size=len(patient))
    return y.astype(np.int8), expit(1.6 * y - 1.5 + noise), patient


def group_of(patient: np.ndarray) -> np.ndarray:
    return patient % 3 == 0


def missed_in_group(cases: LabelCases, s: np.ndarray) -> Estimate | None:
    return missed(cases, s, break_even(cases, s), group_of(cases.patient))


def underdiagnosed_in_group(cases: LabelCases, s: np.ndarray) -> Estimate | None:
    return false_alarms(cases, s, break_even(cases, s), group_of(cases.patient))


# ---------------------------------------------------------------- definitions


def ap_by_definition(y: np.ndarray, s: np.ndarray) -> float:
    """Sum over thresholds of (R_k - R_(k-1)) P_k."""
    total, before = 0.0, 0.0
    for t in np.unique(s)[::-1]:
        above = s >= t
        recall, precision = (y & above).sum() / y.sum(), (y & above).sum() / above.sum()
        total, before = total + (recall - before) * precision, recall
    return total


def sensitivity_by_definition(y: np.ndarray, s: np.ndarray, specificity: float) -> float:
    """The best sensitivity of all thresholds whose specificity is high enough."""
    cuts = np.unique(s)
    allowed = [t for t in cuts if (s[y == 0] <= t).mean() >= specificity - 1e-12]
    return max((s[y == 1] > t).mean() for t in allowed)


def specificity_by_definition(y: np.ndarray, s: np.ndarray, sensitivity: float) -> float:
    cuts = np.unique(s)
    allowed = [t for t in cuts if (s[y == 1] >= t).mean() >= sensitivity - 1e-12]
    return max((s[y == 0] < t).mean() for t in allowed)


rated = st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=40).filter(
    lambda rows: len({y for y, _ in rows}) == 2
)


@given(rated, st.sampled_from([0.5, 0.9, 0.95]))
def test_values_are_those_of_the_definitions_with_ties(
    rows: list[tuple[bool, int]], level: float
) -> None:
    y, s = np.array([r[0] for r in rows]).astype(int), np.array([r[1] for r in rows], float)
    cases = label(y)
    assert average_precision(cases, s).value == pytest.approx(ap_by_definition(y, s))
    assume(len(set(s)) > 1)
    assert sensitivity_at(cases, s, level).value == sensitivity_by_definition(y, s, level)
    assert specificity_at(cases, s, level).value == specificity_by_definition(y, s, level)


@given(rated)
def test_monotone_transforms_change_no_rank_metric(rows: list[tuple[bool, int]]) -> None:
    y, s = np.array([r[0] for r in rows]).astype(int), np.array([r[1] for r in rows], float)
    cases = label(y, np.arange(len(y)) // 2)
    for metric in RANKED.values():
        before, after = metric(cases, s), metric(cases, np.exp(s / 3))
        assert (before is None) == (after is None)
        if before is not None:
            assert before.value == after.value
            np.testing.assert_allclose(before.Phi, after.Phi, atol=1e-14)


def test_at_the_break_even_threshold_precision_is_recall() -> None:
    y, s, _ = clustered()
    cases = label(y)
    cut = break_even(cases, s)
    everybody = np.ones(len(y), bool)
    called = s > cut.t
    assert called.sum() == y.sum()
    recall = (called & (y == 1)).sum() / y.sum()
    assert missed(cases, s, cut, everybody).value == pytest.approx(1 - recall)
    alarms = (called & (y == 0)).sum() / (y == 0).sum()
    assert false_alarms(cases, s, cut, everybody).value == pytest.approx(alarms)


def test_a_group_is_judged_at_everybodys_threshold() -> None:
    y, s, patient = clustered()
    cases, inside = label(y, patient), group_of(patient)
    called = s > break_even(cases, s).t
    assert missed_in_group(cases, s).value == pytest.approx(1 - called[inside & (y == 1)].mean())
    alarms = called[inside & (y == 0)].mean()
    assert underdiagnosed_in_group(cases, s).value == pytest.approx(alarms)


def test_recalibration_finds_what_was_done_to_the_scores() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=20_000)
    y = (rng.random(len(x)) < expit(0.5 + 0.8 * x)).astype(np.int8)
    said = slope(label(y), expit(x))
    assert abs(said.value - 0.8) < 4 * said.V**0.5
    shifted = intercept(label(y), expit(0.8 * x))
    assert abs(shifted.value - 0.5) < 4 * shifted.V**0.5
    assert brier(label(y), expit(x)).value == pytest.approx(np.mean((expit(x) - y) ** 2))


@pytest.mark.parametrize("y", [0, 1])
def test_one_class_alone_has_no_brier_score(y: int) -> None:
    assert brier(label(np.full(8, y, np.int8)), np.full(8, float(y))) is None


def test_recalibration_solves_its_equations() -> None:
    y, s, patient = clustered()
    cases = label(y, patient)
    b = slope(cases, s).value
    a = intercept(cases, s).value
    assert np.sum(y - expit(a + logit(s))) == pytest.approx(0, abs=1e-8)
    x = logit(s)
    inside = np.linspace(-3, 3, 601)
    best = max((np.sum(y * (c + b * x) - np.log1p(np.exp(c + b * x))) for c in inside), default=0)
    for other in (b - 0.05, b + 0.05):
        there = max(np.sum(y * (c + other * x) - np.log1p(np.exp(c + other * x))) for c in inside)
        assert there < best


@pytest.mark.parametrize("s", [np.full(6, 0.4), np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])])
def test_constant_scores_and_separated_classes_have_no_slope(s: np.ndarray) -> None:
    assert slope(label(np.array([0, 0, 0, 1, 1, 1])), s) is None


def test_constant_scores_have_no_operating_point() -> None:
    cases, s = label(np.array([0, 0, 1, 1])), np.full(4, 0.4)
    assert break_even(cases, s) is None
    assert sensitivity_at(cases, s, 0.9) is None
    assert specificity_at(cases, s, 0.9) is None
    assert average_precision(cases, s).value == 0.5


def test_one_class_gives_nothing() -> None:
    cases, s = label(np.ones(5, int)), np.linspace(0.1, 0.9, 5)
    for metric in (*RANKED.values(), intercept, slope):
        assert metric(cases, s) is None


# ---------------------------------------------------------------- variance


def _in(metric: Callable, level: float) -> Metric:
    return lambda cases, s: metric(cases, s, level)


def _missed(cases: LabelCases, s: np.ndarray) -> Estimate | None:
    cut = break_even(cases, s)
    return cut and missed(cases, s, cut, np.ones(len(s), bool))


RANKED: dict[str, Metric] = {
    "average_precision": average_precision,
    "sensitivity_at_90": _in(sensitivity_at, 0.90),
    "sensitivity_at_95": _in(sensitivity_at, 0.95),
    "specificity_at_90": _in(specificity_at, 0.90),
    "specificity_at_95": _in(specificity_at, 0.95),
    "missed": _missed,
}
ALL = RANKED | {
    "brier": brier,
    "intercept": intercept,
    "slope": slope,
    "missed_in_group": missed_in_group,
    "underdiagnosed_in_group": underdiagnosed_in_group,
}


@pytest.fixture(scope="module")
def resampled() -> tuple[dict[str, list[Estimate]], dict[str, np.ndarray]]:
    """Estimates of two models, and 300 replicates of them with patients drawn anew."""
    rng = np.random.default_rng(9)
    y, s, patient = clustered(600)
    other = expit(logit(s) + rng.normal(size=len(s)))
    cases = label(y, patient)
    by_patient = np.split(np.arange(len(y)), np.cumsum(np.bincount(patient))[:-1])
    replicates: dict[str, list[list[float]]] = {name: [] for name in ALL}
    for _ in range(300):
        drawn = rng.integers(0, len(by_patient), len(by_patient))
        rows = np.concatenate([by_patient[g] for g in drawn])
        # a patient keeps the group it had, and may be there twice
        again = label(y[rows], patient[rows])
        for name, metric in ALL.items():
            replicates[name].append([metric(again, each[rows]).value for each in (s, other)])
    ours = {name: [metric(cases, each) for each in (s, other)] for name, metric in ALL.items()}
    return ours, {name: np.cov(np.array(found).T) for name, found in replicates.items()}


@pytest.mark.parametrize("name", ALL)
def test_variances_agree_with_a_cluster_bootstrap(resampled, name: str) -> None:
    """The error of a standard deviation from 300 replicates is 4 %."""
    (first, second), bootstrap = resampled[0][name], resampled[1][name]
    np.testing.assert_allclose(first.V**0.5, bootstrap[0, 0] ** 0.5, rtol=0.15)
    paired = np.array([1, -1]) @ bootstrap @ [1, -1]
    np.testing.assert_allclose((first - second).V ** 0.5, paired**0.5, rtol=0.15)


@pytest.mark.parametrize("name", ALL)
def test_influences_of_patients_sum_to_zero(resampled, name: str) -> None:
    """Twice as many of the same patients change no metric."""
    for estimate in resampled[0][name]:
        assert abs(estimate.Phi.sum()) < 0.02 * np.abs(estimate.Phi).sum()
