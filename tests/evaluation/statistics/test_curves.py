"""Curves agree with their definitions, and their bands with fresh samples."""

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from api_schemas.evaluation import MACRO
from services.evaluation.statistics.cases import UNKNOWN, Cases, Floats, LabelCases
from services.evaluation.statistics.curves import (
    BINS,
    RATES,
    calibration,
    curves,
    sensitivities,
    share_interval,
)
from services.evaluation.statistics.influence import auroc


def label_of(y: np.ndarray, patient: np.ndarray) -> LabelCases:
    return LabelCases(np.arange(len(y)), y.astype(bool), patient, int(patient.max()) + 1)


def sample(
    seed: int, patients: int = 300, shift: float = 1.5, prevalence: float = 0.3
) -> tuple[LabelCases, Floats]:
    """1-4 images a patient; a patient's images are alike."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    y = (rng.random(patients) < prevalence)[patient]
    alike = rng.normal(size=patients)[patient] + rng.normal(size=len(patient))
    return label_of(y, patient), shift * y + alike / np.sqrt(2)


def roc_by_hand(y: np.ndarray, s: np.ndarray, t: float) -> float:
    """The empirical curve's height at t: the highest operating point there, else between two."""
    points = [(0.0, 0.0)]
    for cut in sorted(set(s.tolist()), reverse=True):
        passed = s >= cut
        points.append((float(passed[~y].mean()), float(passed[y].mean())))
    there = [R for f, R in points if abs(f - t) < 1e-12]
    if there:
        return max(there)
    left = max((f, R) for f, R in points if f < t)
    right = min((f, R) for f, R in points if f > t)
    return left[1] + (t - left[0]) / (right[0] - left[0]) * (right[1] - left[1])


@pytest.mark.parametrize("decimals", [8, 0])
def test_a_curve_is_the_empirical_one_whatever_the_ties(decimals: int) -> None:
    cases, s = sample(0, patients=60)
    s = np.round(s, decimals)
    R, Phi = sensitivities(cases, s)
    by_hand = [roc_by_hand(cases.y, s, t) for t in RATES]
    np.testing.assert_allclose(R, by_hand, atol=1e-12)
    np.testing.assert_allclose(Phi.sum(axis=0), 0, atol=0.02)


def test_its_area_is_the_auroc() -> None:
    cases, s = sample(1)
    R, _ = sensitivities(cases, s)
    assert np.trapezoid(R, RATES) == pytest.approx(auroc(cases, s).value, abs=2e-3)


def test_monotone_changes_of_the_score_change_nothing() -> None:
    cases, s = sample(2)
    for a, b in zip(sensitivities(cases, s), sensitivities(cases, np.exp(s / 3)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_score_that_tells_nothing_is_the_diagonal() -> None:
    cases, s = sample(3)
    R, Phi = sensitivities(cases, np.zeros_like(s))
    np.testing.assert_allclose(R, RATES, atol=1e-12)
    np.testing.assert_allclose(Phi, 0, atol=1e-12)


def test_bands_know_what_fresh_patients_would_say() -> None:
    """Against the truth, which is known here: 200 samples of 300 patients, binormal scores."""
    at = [int(np.argmin(np.abs(RATES - t))) for t in (0.05, 0.1, 0.2, 0.4, 0.6)]
    truth = ndtr(ndtri(RATES) + 1.5)[at]
    curve, variance, covered = [], [], []
    for seed in range(200):
        cases, s = sample(seed)
        R, Phi = sensitivities(cases, s)
        V = np.sum(Phi**2, axis=0)
        low, high = share_interval(R, V, np.full_like(R, cases.I1 - 1.0), cases.I1)
        curve.append(R[at])
        variance.append(V[at])
        covered.append((low[at] <= truth) & (truth <= high[at]))
    ratio = np.sqrt(np.mean(variance, axis=0)) / np.std(curve, axis=0)
    assert np.all(np.abs(ratio - 1) < 0.15), ratio
    assert np.all(np.mean(covered, axis=0) > 0.9), np.mean(covered, axis=0)


def test_of_one_image_a_patient_it_is_the_two_binomials() -> None:
    """R(1 - R)/n1 + r^2 t(1 - t)/n0, the slope r being that of the binormal model."""
    rng = np.random.default_rng(5)
    y = np.arange(20_000) % 4 == 0
    s = 1.5 * y + rng.normal(size=len(y))
    cases = label_of(y, np.arange(len(y)))
    _, Phi = sensitivities(cases, s)
    inner = slice(20, 81)
    z = ndtri(RATES[inner])
    R, r = ndtr(z + 1.5), np.exp((z**2 - (z + 1.5) ** 2) / 2)
    t = RATES[inner]
    expected = R * (1 - R) / cases.n1 + r**2 * t * (1 - t) / cases.n0
    np.testing.assert_allclose(np.sum(Phi[:, inner] ** 2, axis=0), expected, rtol=0.12)


def study(*, one_class: bool = False, seeds: int = 3) -> tuple[Cases, list[Floats]]:
    rng = np.random.default_rng(6)
    patient = np.repeat(np.arange(150), rng.integers(1, 4, 150))
    truth = (rng.random((150, 3)) < 0.3)[patient].astype(np.int8)
    truth[rng.random(truth.shape) < 0.1] = UNKNOWN
    if one_class:
        truth[truth[:, 2] == 1, 2] = UNKNOWN
    noise = rng.normal(size=truth.shape)
    runs = [1 / (1 + np.exp(1 - 1.5 * (truth == 1) - noise - 0.2 * k)) for k in range(seeds)]
    return Cases(("a", "b", "c"), truth, patient, 150), runs


def test_macro_is_the_mean_of_the_labels_within_its_band() -> None:
    found = curves(*study()).roc
    assert list(found) == [MACRO, "a", "b", "c"]
    mean = np.mean([found[name].sensitivity for name in "abc"], axis=0)
    np.testing.assert_allclose(found[MACRO].sensitivity, mean, atol=1e-12)
    for curve in found.values():
        assert np.all(curve.low <= curve.sensitivity + 1e-12)
        assert np.all(curve.sensitivity <= curve.high + 1e-12)
        assert np.all(np.diff(curve.sensitivity) >= -1e-12)
    width = {name: float(np.mean(curve.high - curve.low)) for name, curve in found.items()}
    assert width[MACRO] < min(width[name] for name in "abc")


def test_seeds_that_differ_widen_the_band() -> None:
    cases, runs = study(seeds=2)
    apart = [runs[0], 1 / (1 + np.exp(-np.random.default_rng(7).normal(size=runs[0].shape)))]
    narrow, wide = (curves(cases, each).roc["a"] for each in ([runs[0]] * 2, apart))
    middle = slice(20, 60)
    assert np.mean((wide.high - wide.low)[middle]) > 2 * np.mean((narrow.high - narrow.low)[middle])


def test_a_label_of_one_class_has_no_curve_and_the_mean_is_over_the_others() -> None:
    found = curves(*study(one_class=True))
    assert list(found.roc) == [MACRO, "a", "b"]
    assert list(found.calibration) == [MACRO, "a", "b"]
    mean = np.mean([found.roc[label].sensitivity for label in "ab"], axis=0)
    np.testing.assert_allclose(found.roc[MACRO].sensitivity, mean)


def test_one_patient_is_no_band() -> None:
    cases = Cases.of(["a"], np.array([[1], [1], [0], [0], [0]], np.int8), list("ppqrs"))
    found = curves(cases, [np.array([[0.9], [0.6], [0.5], [0.7], [0.1]])])
    assert found.roc["a"].low is None
    np.testing.assert_allclose(found.roc["a"].sensitivity[[0, -1]], [0.5, 1.0])


def test_scores_that_are_no_probabilities_are_not_calibrated() -> None:
    cases, runs = study()
    assert list(curves(cases, runs).calibration) == [MACRO, "a", "b", "c"]
    assert curves(cases, [runs[0] * 3, *runs[1:]]).calibration == {}


def test_bins_hold_equally_many_and_say_what_was_observed() -> None:
    s = np.arange(100) / 100
    y = np.arange(100) % 2 == 0
    found = calibration(y, s, np.arange(100), runs=1)
    assert [b.images for b in found] == [10] * BINS
    np.testing.assert_allclose([b.observed for b in found], 0.5)
    np.testing.assert_allclose([b.predicted for b in found], np.arange(10) / 10 + 0.045)


def test_equal_scores_share_a_bin() -> None:
    s = np.repeat([0.1, 0.4, 0.9], [50, 30, 20])
    found = calibration(np.arange(100) % 2 == 0, s, np.arange(100), runs=1)
    assert [(b.predicted, b.images) for b in found] == [
        (pytest.approx(0.1), 50),
        (pytest.approx(0.4), 30),
        (pytest.approx(0.9), 20),
    ]
    (alone,) = calibration(np.arange(9) == 0, np.full(9, 0.3), np.zeros(9, np.int64), runs=1)
    assert (alone.low, alone.images) == (None, 9)


def test_images_of_a_patient_make_a_bin_no_surer() -> None:
    """Ten copies of every image are no more patients."""
    rng = np.random.default_rng(8)
    s, patient = rng.random(400), np.arange(400)
    y = rng.random(400) < s
    once = calibration(y, s, patient, runs=1)
    often = calibration(np.tile(y, 10), np.tile(s, 10), np.tile(patient, 10), runs=10)
    assert [b.images for b in once] == [b.images for b in often]
    np.testing.assert_allclose([b.low for b in once], [b.low for b in often], atol=1e-12)


def test_the_interval_of_a_share_is_wilsons() -> None:
    """Wilson's example: 10 of 100 with z = 1.96 lies between .0552 and .1744."""
    p, n, many = np.array([0.1]), 100, np.array([1e9])
    low, high = share_interval(p, p * (1 - p) / n, many, patients=n)
    np.testing.assert_allclose([low[0], high[0]], [0.0552, 0.1744], atol=1e-4)
    low, high = share_interval(np.array([0.0, 1.0]), np.zeros(2), np.full(2, 29.0), patients=30)
    assert low[0] == 0
    assert 0.08 < high[0] < 0.15
    assert (low[1], high[1]) == (pytest.approx(1 - high[0]), 1)
