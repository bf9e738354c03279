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
    """With the same influences in every run."""
    runs = np.tile(np.array(Phi, dtype=float), (len(values), 1))
    return Estimate(np.array(values, dtype=float), runs, fewest, fewest)


def test_degrees_of_freedom_of_patients_alone() -> None:
    equal = estimate([0.8], [0.01] * 30)
    assert equal.nu == 29
    assert estimate([0.8], [0.01, 0, 0]).nu == 1
    kurtosis = (1 + 16 + 81 + 10_000) / (1 + 4 + 9 + 100) ** 2
    uneven = estimate([0.8], [0.01, 0.02, -0.03, 0.10] * 10)
    assert uneven.nu == pytest.approx(2 / (kurtosis / 10 - 1 / 40))
    assert uneven.carriers == pytest.approx(10 / kurtosis)


def test_normal_influences_have_as_many_degrees_of_freedom_as_patients() -> None:
    draws = np.random.default_rng(3).normal(size=100_000)
    assert estimate([0.8], list(draws), fewest=10**6).nu == pytest.approx(100_000, rel=0.02)


def test_few_patients_have_one_degree_of_freedom_less_than_they_are() -> None:
    assert estimate([0.8], [0.01] * 3 + [0.001] * 100, fewest=3).nu == 2
    assert estimate([0.8], [0.01] * 3 + [0.001] * 100).nu > 3


def test_degrees_of_freedom_join_patients_and_seeds() -> None:
    """What is the patients' and the seeds' together is counted once."""
    values, same = [0.01, 0.02, 0.03, 0.02], np.full(100, 0.001)
    B = np.var(values, ddof=1) / 4
    for apart in (0.0, 0.0005):
        runs = same + apart * np.outer([1, 1, -1, -1], np.tile([1, -1], 50))
        D = Estimate(np.array(values), runs, 500, 500)
        A, C = 100 * 1e-6, 4 * 100 * apart**2 / (4 * 3)
        np.testing.assert_allclose(D.V, A - C + B)
        weights = ((A - C) / D.V) ** 1.5 / 99 + (B / D.V) ** 1.5 / 3
        assert D.nu == pytest.approx(1 / weights)


def test_the_variance_is_at_least_that_of_the_mean_influences() -> None:
    agree = Estimate(np.array([0.5, 0.5]), np.outer([1, -1], [0.1, -0.1]) + 0.01, 9, 9)
    np.testing.assert_allclose(agree.V, 2 * 0.01**2)
    assert (agree.V_patients, agree.V_seeds) == (0.0, 0.0)


def test_difference_interval_and_p() -> None:
    D = estimate([0.02], [0.001] * 64)
    found = difference_inference(D)
    half = stats.t.ppf(0.975, 63) * 0.008
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half))
    assert found.p == pytest.approx(2 * stats.t.sf(2.5, 63))


def test_logit_interval_stays_inside_and_is_asymmetric() -> None:
    found = auroc_inference(estimate([0.97], [0.01] * 9))
    half = stats.t.ppf(0.975, 8) * 0.03 / (0.97 * 0.03)
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
    se, t90, t95 = 0.002, stats.t.ppf(0.95, 63), stats.t.ppf(0.975, 63)
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
        patients_only = Estimate.of_run(D.value, D.Phi, D.fewest, D.together)
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
    few = estimate([0.5], [0.3, *[0.02] * 9], fewest=10)
    rate = level_inference("sensitivity", few)
    bounded = level_inference("auroc", few)
    assert rate.nu == bounded.nu
    assert rate.carriers < 2
    assert rate.low < bounded.low == pytest.approx(stats.beta.ppf(0.025, 5, 6))
    assert rate.high > bounded.high == pytest.approx(stats.beta.ppf(0.975, 6, 5))
