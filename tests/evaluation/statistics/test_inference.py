"""Intervals and tests: the formulas at known points, and what they promise by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.evaluation.statistics.cases import Cases
from services.evaluation.statistics.estimate import Estimate, over_seeds
from services.evaluation.statistics.inference import (
    auroc_inference,
    difference_inference,
    holm,
    is_equivalent,
    margin_inference,
)
from services.evaluation.statistics.influence import auroc, label_aurocs, macro
from services.evaluation.statistics.lines import level_inference


def estimate(values: list[float], Phi: list[float], fewest: int = 500) -> Estimate:
    return Estimate(np.array(values, dtype=float), np.array(Phi, dtype=float), fewest, fewest)


def test_degrees_of_freedom_of_patients_alone() -> None:
    equal = estimate([0.8], [0.01] * 30)
    assert equal.nu == pytest.approx(30)
    assert estimate([0.8], [0.01, 0, 0]).nu == 1
    assert estimate([0.8], [0.02, 0.01]).nu == pytest.approx(5**2 / 17)


def test_few_patients_have_one_degree_of_freedom_less_than_they_are() -> None:
    assert estimate([0.8], [0.01] * 3 + [0.001] * 100, fewest=3).nu == 2
    assert estimate([0.8], [0.01] * 3 + [0.001] * 100).nu > 3


def test_degrees_of_freedom_join_patients_and_seeds() -> None:
    D = estimate([0.01, 0.02, 0.03, 0.02], [0.001] * 100)
    V_P, V_S = 100 * 1e-6, np.var([0.01, 0.02, 0.03, 0.02], ddof=1) / 4
    np.testing.assert_allclose(D.V, V_P + V_S)
    assert D.nu == pytest.approx((V_P + V_S) / (V_P / 100 + V_S / 3))


def test_difference_interval_and_p() -> None:
    D = estimate([0.02], [0.001] * 64)
    found = difference_inference(D)
    half = stats.t.ppf(0.975, 64) * 0.008
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half))
    assert found.p == pytest.approx(2 * stats.t.sf(2.5, 64))


def test_logit_interval_stays_inside_and_is_asymmetric() -> None:
    found = auroc_inference(estimate([0.97], [0.01] * 9))
    half = stats.t.ppf(0.975, 9) * 0.03 / (0.97 * 0.03)
    logit = np.log(0.97 / 0.03)
    assert found.low == pytest.approx(1 / (1 + np.exp(-(logit - half))))
    assert found.high == pytest.approx(1 / (1 + np.exp(-(logit + half))))
    assert found.high < 1
    assert 0.97 - found.low > found.high - 0.97


def test_a_perfect_ranking_has_an_exact_lower_limit_and_no_p() -> None:
    truth = np.array([1, 1, 1, 0, 0, 0, 0], dtype=np.int8)[:, None]
    cases = Cases.of(["x"], truth, list("abbcdef"))
    perfect = auroc(cases.by_label[0], np.array([7.0, 6, 5, 4, 3, 2, 1]))
    found = auroc_inference(perfect)
    assert (found.value, found.high, found.exact) == (1.0, 1.0, True)
    assert found.low == pytest.approx(0.05 ** (1 / 2))  # two patients are positive
    assert found.p is None
    wrong = auroc_inference(auroc(cases.by_label[0], np.arange(7.0)))
    assert (wrong.value, wrong.low) == (0.0, 0.0)
    assert wrong.high == pytest.approx(1 - 0.05 ** (1 / 2))


def test_no_p_with_few_patients_but_an_interval() -> None:
    few = difference_inference(estimate([0.1], [0.01] * 20, fewest=4))
    assert few.p is None
    assert few.low is not None
    assert difference_inference(estimate([0.1], [0.01] * 20, fewest=5)).p is not None


def test_nothing_is_said_where_nothing_varies() -> None:
    same = difference_inference(estimate([0.0], [0.0] * 20))
    assert (same.value, same.low, same.high, same.p, same.nu) == (0.0, None, None, None, None)
    constant = auroc_inference(estimate([0.5], [0.0] * 20))
    assert (constant.value, constant.low, constant.p) == (0.5, None, None)


def test_equivalence_needs_the_whole_90_percent_interval() -> None:
    se, t90, t95 = 0.002, stats.t.ppf(0.95, 64), stats.t.ppf(0.975, 64)
    D = estimate([0.001], [se / 8] * 64)
    edge = 0.001 + t90 * se
    assert is_equivalent(D, edge + 1e-9)
    assert not is_equivalent(D, edge - 1e-9)
    assert edge < 0.001 + t95 * se
    assert not is_equivalent(estimate([0.0], [0.0]), 0.005)


def test_holm_by_hand_and_a_missing_p_counts_in_the_family() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.01, None, 0.04]) == [pytest.approx(0.03), None, pytest.approx(0.08)]
    assert holm([None, None]) == [None, None]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_order_and_never_lowers(ps: list[float]) -> None:
    adjusted = holm(ps)
    assert all(p <= q <= 1 for p, q in zip(ps, adjusted, strict=True))
    ranked = [adjusted[i] for i in sorted(range(len(ps)), key=lambda i: ps[i])]
    assert ranked == sorted(ranked)


def patients_with_images(rng: np.random.Generator, patients: int) -> np.ndarray:
    return np.repeat(np.arange(patients), rng.integers(1, 5, patients))


def test_nominal_95_percent_intervals_cover_for_rare_clustered_findings() -> None:
    """200 patients, 10 % prevalence, AUROC .80, images of a patient correlated."""
    rng = np.random.default_rng(11)
    separation = np.sqrt(2) * stats.norm.ppf(0.8)
    covered, runs = 0, 500
    for _ in range(runs):
        patient = patients_with_images(rng, 200)
        truth = (rng.random(200) < 0.1)[patient].astype(np.int8)
        noise = np.sqrt(0.7) * rng.normal(size=200)[patient]
        s = separation * truth + noise + np.sqrt(0.3) * rng.normal(size=len(patient))
        found = auroc_inference(auroc(Cases(("x",), truth[:, None], patient, 200).by_label[0], s))
        covered += found.low <= 0.8 <= found.high
    assert 0.92 <= covered / runs <= 0.985


def two_arms_without_an_effect(rng: np.random.Generator, runs: int) -> Estimate:
    """Two arms of the same method: each training seed perturbs the model's weights at random."""
    patients, labels, features = 300, 2, 12
    patient = patients_with_images(rng, patients)
    truth = (rng.random((patients, labels)) < 0.3)[patient].astype(np.int8)
    x = rng.normal(size=(patients, features))[patient] + 0.5 * rng.normal(
        size=(len(patient), features)
    )
    x[:, :labels] += 1.2 * truth
    cases = Cases(("a", "b"), truth, patient, patients)
    weights = np.eye(features)[:, :labels]

    def run() -> Estimate:
        trained = weights + 0.25 * rng.normal(size=weights.shape)
        return macro(cases, label_aurocs(cases, x @ trained))

    return over_seeds([run() for _ in range(runs)]) - over_seeds([run() for _ in range(runs)])


def test_without_an_effect_the_seed_aware_test_rarely_rejects() -> None:
    """Patients alone answer "these weights": they reject a true null far more often."""
    rng = np.random.default_rng(12)
    aware = blind = 0
    experiments = 300
    for _ in range(experiments):
        D = two_arms_without_an_effect(rng, runs=4)
        aware += difference_inference(D).p < 0.05
        patients_only = Estimate(np.array([D.value]), D.Phi, D.fewest, D.together)
        blind += difference_inference(patients_only).p < 0.05
    assert aware / experiments <= 0.075
    assert blind / experiments >= 0.12


def test_a_difference_to_a_perfect_ranking_has_no_p() -> None:
    rng, n = np.random.default_rng(1), 60
    y = (np.arange(n) % 3 == 0).astype(np.int8)
    cases = Cases.of(["x"], y[:, None], [f"p{i}" for i in range(n)])
    perfect, other = (auroc(cases.by_label[0], s) for s in (y.astype(float), rng.normal(size=n)))
    for D in (perfect - other, other - perfect):
        said = difference_inference(D)
        assert (said.p, said.exact) == (None, True)
        assert margin_inference(D, 0.9, two_sided=True).p is None
    assert difference_inference(other - other).exact is False


def test_only_an_auroc_is_bounded_by_its_rarer_class() -> None:
    """Many images of one patient may let a rate vary more than so many patients allow."""
    few = estimate([0.5], [0.3, 0.2, 0.01], fewest=10)
    rate = level_inference("sensitivity", few)
    bounded = level_inference("auroc", few)
    assert rate.nu == bounded.nu
    assert rate.nu < 2
    assert rate.low < bounded.low == pytest.approx(stats.beta.ppf(0.025, 5, 6))
    assert rate.high > bounded.high == pytest.approx(stats.beta.ppf(0.975, 6, 5))
