"""Shares and means by patient: against closed forms, simulation and known limits."""

import numpy as np
import pytest
from scipy.stats import t as student

from services.evaluation.statistics.shares import Sample, difference, mean_of, share_of


def one_each(n: int, G: int | None = None, start: int = 0) -> Sample:
    """One image a patient."""
    return Sample(np.arange(start, start + n), G or n)


def test_with_one_image_a_patient_a_mean_is_the_textbooks() -> None:
    y = np.random.default_rng(0).normal(50, 10, 200)
    made = mean_of(one_each(200), y, np.ones(200, bool))
    assert made is not None
    assert made.value == pytest.approx(y.mean())
    error = y.std(ddof=1) / np.sqrt(200)
    assert pytest.approx(error**2) == made.estimate.V
    low, high = made.limits
    assert low == pytest.approx(y.mean() - 2 * error, abs=0.05 * error + 0.1)
    assert high is not None
    assert y.mean() < high < y.mean() + 2.2 * error


def test_a_patients_images_count_as_one_opinion() -> None:
    y = np.random.default_rng(1).random(50) < 0.3
    alone = share_of(one_each(50), y, np.ones(50, bool))
    ten_times = share_of(
        Sample(np.repeat(np.arange(50), 10), 50), np.repeat(y, 10), np.ones(500, bool)
    )
    assert alone is not None
    assert ten_times is not None
    assert ten_times.images == 500
    assert ten_times.limits == pytest.approx(alone.limits)


def test_what_is_not_known_does_not_count() -> None:
    y, known = np.array([True, False, True, True]), np.array([True, True, False, False])
    made = share_of(one_each(4), y, known)
    assert made is not None
    assert (made.value, made.images) == (0.5, 2)
    assert share_of(one_each(4), y, np.zeros(4, bool)) is None
    assert difference(None, made) == (None, (None, None))


def test_a_share_of_nothing_has_the_rule_of_three_as_its_limit() -> None:
    made = share_of(one_each(100), np.zeros(100, bool), np.ones(100, bool))
    assert made is not None
    low, high = made.limits
    assert (made.value, low) == (0.0, 0.0)
    assert high == pytest.approx(3 / 100, abs=0.001)


def test_one_patient_alone_has_no_limits() -> None:
    sample = Sample(np.zeros(5, np.int64), 1)
    made = mean_of(sample, np.arange(5.0), np.ones(5, bool))
    assert made is not None
    assert made.limits == (None, None)
    assert difference(made, made) == (0.0, (None, None))


def test_a_difference_of_independent_sets_is_near_welchs() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(50, 10, 300), rng.normal(53, 20, 150)
    first = mean_of(one_each(300, 450), a, np.ones(300, bool))
    second = mean_of(one_each(150, 450, 300), b, np.ones(150, bool))
    d, (low, high) = difference(first, second)
    error = np.sqrt(a.var(ddof=1) / 300 + b.var(ddof=1) / 150)
    assert d == pytest.approx(b.mean() - a.mean())
    assert low == pytest.approx(d - student.ppf(0.975, 200) * error, abs=0.1)
    assert high == pytest.approx(d + student.ppf(0.975, 200) * error, abs=0.1)


def test_a_set_does_not_differ_from_itself() -> None:
    y = np.random.default_rng(3).random(100) < 0.4
    made = share_of(one_each(100), y, np.ones(100, bool))
    d, (low, high) = difference(made, made)
    # same patients: the logit limits are not symmetric, so the two do not cancel altogether
    assert d == 0.0
    assert low == pytest.approx(0.0, abs=0.02)
    assert high == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(("p1", "p2"), [(0.1, 0.1), (0.3, 0.5), (0.02, 0.05)])
def test_intervals_of_differences_cover_as_they_say(p1: float, p2: float) -> None:
    """400 patients a side with one to five images that agree in part."""
    rng = np.random.default_rng(7)
    truth, covered, rounds = p2 - p1, 0, 400
    for _ in range(rounds):
        sides = []
        for side, p in enumerate((p1, p2)):
            images = rng.integers(1, 6, 400)
            own = rng.beta(4 * p, 4 * (1 - p), 400)  # patients differ
            patient = np.repeat(np.arange(400), images)
            y = rng.random(len(patient)) < own[patient]
            sides.append(share_of(Sample(patient + 400 * side, 800), y, np.ones(len(y), bool)))
        _, (low, high) = difference(*sides)
        assert low is not None
        assert high is not None
        covered += low <= truth <= high
    assert 0.92 <= covered / rounds <= 0.985
