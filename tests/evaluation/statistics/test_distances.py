"""Distances between sets of features, against closed forms and the formulas done by hand."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.evaluation.statistics.distances import (
    frechet,
    gaussian_distance,
    kernel_distance,
    kernel_distance_in_blocks,
    parts,
)


def covariance(rng: np.random.Generator, D: int, rank: int | None = None) -> np.ndarray:
    half = rng.normal(size=(D, rank or D))
    return half @ half.T


def by_mpmath(mu, A, nu, B) -> float:
    """The formula as it is printed, tr (AB)^1/2 from the eigenvalues of AB, in 60 digits."""
    with mpmath.workdps(60):
        product = mpmath.matrix(A.tolist()) * mpmath.matrix(B.tolist())
        roots = sum(mpmath.sqrt(abs(mpmath.re(w))) for w in mpmath.eig(product, right=False))
        d = mpmath.matrix((mu - nu).tolist())
        trace = sum(A[i, i] for i in range(len(A))) + sum(B[i, i] for i in range(len(B)))
        return float(sum(x * x for x in d) + trace - 2 * roots)


def test_in_one_dimension_it_is_the_difference_of_means_and_deviations() -> None:
    found = gaussian_distance(
        np.array([1.0]), np.array([[4.0]]), np.array([3.5]), np.array([[9.0]])
    )
    assert found == pytest.approx(2.5**2 + (2 - 3) ** 2, rel=1e-14)


def test_covariances_that_commute_have_a_closed_form() -> None:
    rng = np.random.default_rng(1)
    Q, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    a, b = rng.random(6), rng.random(6)
    a[0] = 0.0  # singular
    found = gaussian_distance(np.zeros(6), (Q * a) @ Q.T, np.zeros(6), (Q * b) @ Q.T)
    assert found == pytest.approx(float(((np.sqrt(a) - np.sqrt(b)) ** 2).sum()), rel=1e-7)


@pytest.mark.parametrize(("rank", "tolerance"), [(None, 1e-12), (3, 1e-6)])
def test_it_agrees_with_sixty_digits(rank: int | None, tolerance: float) -> None:
    rng = np.random.default_rng(2)
    mu, nu = rng.normal(size=5), rng.normal(size=5)
    A, B = covariance(rng, 5, rank), covariance(rng, 5)
    assert gaussian_distance(mu, A, nu, B) == pytest.approx(by_mpmath(mu, A, nu, B), rel=tolerance)


def test_a_set_against_itself_is_at_no_distance_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(30, 50)), rng.normal(size=(40, 50))  # fewer images than features
    assert frechet(x, x) == pytest.approx(0, abs=1e-5)
    assert frechet(x, y) == pytest.approx(frechet(y, x), rel=1e-6)
    assert frechet(x + 1, x) == pytest.approx(50, rel=1e-6)


def loops(x: np.ndarray, y: np.ndarray, of_x: np.ndarray, of_y: np.ndarray) -> Fraction:
    """The unbiased estimator pair by pair, exactly."""

    def k(a: np.ndarray, b: np.ndarray) -> Fraction:
        dot = sum(Fraction(float(u)) * Fraction(float(v)) for u, v in zip(a, b, strict=True))
        return (dot / len(a) + 1) ** 3

    def within(z: np.ndarray, of: np.ndarray) -> Fraction:
        values = [k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if of[i] != of[j]]
        return sum(values, Fraction(0)) / len(values)

    across = [k(a, b) for a in x for b in y]
    return within(x, of_x) + within(y, of_y) - 2 * sum(across, Fraction(0)) / len(across)


@pytest.mark.parametrize("of_x", [[0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 2, 3]])
def test_the_kernel_distance_is_the_sum_over_pairs(of_x: list[int]) -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(5, 3)) + 0.5
    of = np.array(of_x), np.arange(5)
    assert kernel_distance(x, y, *of) == pytest.approx(float(loops(x, y, *of)), rel=1e-12)


def test_it_is_unbiased_also_where_patients_have_several_images() -> None:
    """Over many draws of one distribution: zero on average, below zero about half of the time."""
    rng = np.random.default_rng(5)
    of_x, of_y = np.repeat(np.arange(10), 3), np.arange(30)
    found, ignoring_patients = [], []
    for _ in range(400):
        people = rng.normal(size=(10, 4))
        x = np.sqrt(0.8) * people[of_x] + np.sqrt(0.2) * rng.normal(size=(30, 4))
        y = rng.normal(size=(30, 4))
        found.append(kernel_distance(x, y, of_x, of_y))
        ignoring_patients.append(kernel_distance(x, y, of_y, of_y))
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * error
    assert 0.3 < np.mean(np.array(found) < 0) < 0.8
    assert np.mean(ignoring_patients) > 4 * error


def test_the_standard_error_is_that_of_repeated_studies() -> None:
    rng = np.random.default_rng(6)
    values, errors = [], []
    of = np.arange(100)
    for _ in range(200):
        x, y = rng.normal(size=(100, 3)), rng.normal(size=(100, 3)) + 0.3
        spread, blocks = kernel_distance_in_blocks(x, y, of, of, rng)
        assert blocks == 10
        values.append(spread.value)
        errors.append(spread.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


def test_few_patients_make_fewer_blocks_and_one_has_no_error() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(9, 2))
    spread, blocks = kernel_distance_in_blocks(x, x, np.arange(9), np.arange(9), rng)
    assert blocks == 2
    assert spread.error is not None
    spread, blocks = kernel_distance_in_blocks(x[:5], x[:5], np.arange(5), np.arange(5), rng)
    assert (blocks, spread.error) == (1, None)


@given(st.lists(st.integers(1, 9), min_size=8, max_size=40), st.integers(1, 4), st.integers(0, 99))
def test_nobody_is_in_two_parts_and_none_is_empty(images: list[int], count: int, seed: int) -> None:
    of = np.repeat(np.arange(len(images)), images)
    part = parts(of, count, np.random.default_rng(seed))
    assert all(len(set(part[of == who])) == 1 for who in range(len(images)))
    assert all(len(np.unique(of[part == each])) >= 2 for each in range(count))
