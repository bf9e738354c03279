"""The baseline of trivial features: found where they tell, nothing where they do not."""

import numpy as np
import pytest

from services.evaluation.statistics.baseline import (
    FEATURES,
    apart,
    baseline,
    cross_validated,
    features_of,
    some_patients,
    weights,
)
from services.evaluation.statistics.cases import Cases, LabelCases, dominates

PLACE = {feature.name: n for n, feature in enumerate(FEATURES)}


def label_of(y: np.ndarray, patient: np.ndarray) -> LabelCases:
    names = np.array([f"p{each}" for each in patient])
    return Cases.of(("Edema",), y.astype(np.int8)[:, None], names).by_label[0]


def noise(seed: int, patients: int = 120, d: int = len(FEATURES)) -> tuple[np.ndarray, np.ndarray]:
    """Patients of one to three images whose features are alike."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    X = rng.normal(size=(patients, d))[patient] + 0.3 * rng.normal(size=(len(patient), d))
    return X, patient


def test_features_are_what_they_are_called() -> None:
    px = np.zeros((50, 100), np.uint8)
    px[10:40] = 100  # ten black rows above and ten below
    px[20:30, 50:60] = 255
    found = {name: features_of(px)[n] for name, n in PLACE.items()}
    assert (found["height"], found["width"]) == (50, 100)
    assert found["black rows"] == pytest.approx(20 / 50)
    assert found["black columns"] == 0
    assert found["brightness"] == pytest.approx(px.mean())
    assert found["contrast"] == pytest.approx(px.std())
    assert found["black"] == pytest.approx((px == 0).mean())
    assert found["white"] == pytest.approx(100 / 5000)
    rim = np.ones((50, 100), bool)
    rim[2:-2, 2:-2] = False
    assert found["border"] == pytest.approx(px[rim].mean())
    assert found["corners"] == 0
    steps = [np.abs(np.diff(px.astype(int), axis=axis)).mean() for axis in (0, 1)]
    assert found["sharpness"] == pytest.approx(np.mean(steps))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (3, 2), (2000, 1)])
def test_features_of_odd_shapes_are_finite(shape: tuple[int, int]) -> None:
    for grey in (0, 255):
        assert np.isfinite(features_of(np.full(shape, grey, np.uint8))).all()


def test_a_feature_that_tells_is_found_and_named() -> None:
    X, patient = noise(0)
    y = X[:, PLACE["border"]] + np.random.default_rng(9).normal(size=len(X)) < -0.5
    told = baseline(label_of(y, patient), X)
    assert told is not None
    assert told.inference.low is not None
    assert told.inference.low > 0.6
    assert FEATURES[told.best].name == "border"
    assert told.alone[told.best] < 0.5  # darker borders where the finding is


def test_features_that_tell_nothing_find_nothing() -> None:
    """Neither above chance nor, as pooled folds with their own intercepts would be, below."""
    values: list[float] = []
    above = 0
    for seed in range(120):
        X, patient = noise(seed, 80)
        y = (np.random.default_rng(seed).random(80) < 0.3)[patient]
        told = baseline(label_of(y, patient), X)
        assert told is not None
        values.append(told.inference.value)
        above += told.inference.low is not None and told.inference.low > 0.5
    assert np.mean(values) == pytest.approx(0.5, abs=0.035)
    assert above / len(values) < 0.1


def test_nobody_is_scored_by_weights_that_were_fitted_to_them() -> None:
    """Each patient's features give the patient away: fitted to themselves all would be right."""
    patient = np.repeat(np.arange(40), 5)
    y = (np.arange(40) % 2 == 0)[patient]
    Z = np.eye(40)[patient]
    scores = cross_validated(Z, label_of(y, patient))
    assert len(np.unique(scores)) == 1


def test_one_patient_of_a_class_has_no_baseline_and_two_have() -> None:
    X, patient = noise(3)
    one, two = patient == 7, np.isin(patient, (7, 8))
    assert baseline(label_of(one, patient), X) is None
    rare = baseline(label_of(two, patient), X)
    assert rare is not None
    low, high = rare.inference.low, rare.inference.high
    assert low is None or high is None or (low < 0.5 < high) or high - low > 0.1
    assert baseline(label_of(np.zeros(len(X), bool), patient), X) is None


def test_patients_with_both_classes_are_held_together() -> None:
    X, patient = noise(4, 30)
    y = np.random.default_rng(1).random(len(X)) < 0.5
    assert baseline(label_of(y, patient), X) is not None


def test_the_names_of_patients_do_not_matter() -> None:
    X, patient = noise(5)
    y = X[:, 4] + np.random.default_rng(2).normal(size=len(X)) > 0
    renamed = np.random.default_rng(3).permutation(patient.max() + 1)[patient]
    assert baseline(label_of(y, patient), X) == baseline(label_of(y, renamed), X)


def test_constant_features_have_no_say() -> None:
    X, patient = np.full((60, len(FEATURES)), 7.0), np.arange(60)
    told = baseline(label_of(patient % 3 == 0, patient), X)
    assert told is not None
    assert told.inference.value == 0.5
    assert set(told.alone) == {0.5}


def test_weights_are_those_of_the_penalised_likelihood() -> None:
    rng = np.random.default_rng(6)
    Z = rng.normal(size=(300, 3))
    y = rng.random(300) < 1 / (1 + np.exp(-(Z @ [1.0, -2.0, 0.0] + 0.5)))
    w = weights(Z, y)
    assert np.sign(w[:2]).tolist() == [1, -1]

    def loss(intercept: float, w: np.ndarray) -> float:
        z = intercept + Z @ w
        return float(np.sum(np.logaddexp(0, z) - y * z) + w @ w / 2)

    intercepts = np.linspace(-3, 3, 6001)
    best = intercepts[np.argmin([loss(b, w) for b in intercepts])]
    for _ in range(20):
        assert loss(best, w) <= loss(best, w + 0.05 * rng.normal(size=3)) + 1e-6


def test_separable_classes_are_fitted_to_an_end() -> None:
    Z = np.linspace(-1, 1, 40)[:, None]
    assert np.isfinite(weights(Z, Z[:, 0] > 0)).all()


def test_two_sets_of_unequal_exposure_are_told_apart_and_two_alike_are_not() -> None:
    X, patient = noise(7, 160)
    first = patient < 80
    names = np.array([f"p{each}" for each in patient])
    alike = apart(X[first], X[~first], names)
    assert alike is not None
    assert alike.inference.low is not None
    assert alike.inference.low < 0.5
    X[~first, PLACE["brightness"]] += 3
    told = apart(X[first], X[~first], names)
    assert told is not None
    assert told.inference.value > 0.9
    assert FEATURES[told.best].name == "brightness"


def test_at_most_so_many_images_are_read_by_whole_patients() -> None:
    patient = np.array([0, 1, 0, 2, 2, 2, 1, 3])
    assert some_patients(patient, 4, 5).tolist() == [
        each in {0, 1} for each in patient
    ]  # three more would be seven
    assert some_patients(patient, 4, 100).all()


@pytest.mark.parametrize(
    ("images", "holds"),
    [
        ([1] * 100, False),
        ([66, *[3] * 211], True),  # as on real films: 66 of 701
        ([4, 1, 1], False),  # few patients, no one of them beyond the mean
        ([10, *[1] * 300], False),  # ten times the mean, and 3 of 100 images
        ([20, *[1] * 100], True),
        ([5], False),
        ([], False),
    ],
)
def test_one_patient_dominates_by_share_and_by_the_mean(images: list[int], holds: bool) -> None:
    assert dominates(np.repeat(np.arange(len(images)), images).astype(np.int64)) is holds
