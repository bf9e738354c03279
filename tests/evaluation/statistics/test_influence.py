"""AUROC and its variance against brute force, DeLong, published figures and resampling."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from services.evaluation.statistics.cases import UNKNOWN, Cases
from services.evaluation.statistics.estimate import over_seeds
from services.evaluation.statistics.inference import auroc_inference, difference_inference
from services.evaluation.statistics.influence import auroc, label_aurocs, macro, placements


def one_label(y: ArrayLike, patients: ArrayLike | None = None) -> Cases:
    y = np.asarray(y, dtype=np.int8)
    ids = np.arange(len(y)) if patients is None else np.asarray(patients)
    return Cases.of(["x"], y[:, None], [f"p{i}" for i in ids])


def brute_force_auroc(y: np.ndarray, s: np.ndarray) -> float:
    positives, negatives = s[y == 1], s[y == 0]
    wins = (positives[:, None] > negatives).sum() + 0.5 * (positives[:, None] == negatives).sum()
    return wins / (len(positives) * len(negatives))


def delong(y: np.ndarray, *scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong 1988, straight from its structural components: AUROCs and their covariance."""
    V10, V01 = [], []
    for s in scores:
        x, z = s[y == 1][:, None], s[y == 0][None, :]
        psi = (x > z) + 0.5 * (x == z)
        V10.append(psi.mean(axis=1))
        V01.append(psi.mean(axis=0))
    S10, S01 = np.atleast_2d(np.cov(V10)), np.atleast_2d(np.cov(V01))
    return np.mean(V10, axis=1), S10 / (y == 1).sum() + S01 / (y == 0).sum()


def clustered(
    rng: np.random.Generator, patients: int = 80, labels: int = 3
) -> tuple[Cases, list[np.ndarray]]:
    """Patients with 1-4 images, correlated scores of two models, some labels unknown."""
    patient = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    n = len(patient)
    truth = (rng.random((patients, labels)) < 0.35)[patient] ^ (rng.random((n, labels)) < 0.1)
    shared = truth + rng.normal(size=(patients, labels))[patient]
    models = [shared + 0.7 * rng.normal(size=(n, labels)) for _ in range(2)]
    truth = np.where(rng.random((n, labels)) < 0.2, UNKNOWN, truth).astype(np.int8)
    return Cases.of([f"l{k}" for k in range(labels)], truth, [f"p{i}" for i in patient]), models


Rows = list[tuple[bool, int]]
cases_with_ties = st.lists(
    st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60
).filter(lambda rows: len({y for y, _ in rows}) == 2)


@given(cases_with_ties)
def test_auroc_and_placements_equal_pairwise_comparison_with_ties(rows: Rows) -> None:
    y, s = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=float)
    A, V = placements(y, s)
    assert pytest.approx(brute_force_auroc(y.astype(int), s), abs=1e-14) == A
    assert V[y].mean() == pytest.approx(A, abs=1e-14)
    assert V[~y].mean() == pytest.approx(A, abs=1e-14)


@settings(max_examples=50)
@given(cases_with_ties, st.randoms(use_true_random=False))
def test_row_order_and_monotone_transforms_change_nothing(rows: Rows, random: Random) -> None:
    y, s = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=float)
    patients = np.array([random.randrange(10) for _ in rows])
    shuffled = np.array(random.sample(range(len(rows)), len(rows)))
    before = auroc(one_label(y, patients).by_label[0], s)
    after = auroc(one_label(y[shuffled], patients[shuffled]).by_label[0], np.exp(s / 3)[shuffled])
    assert after.value == before.value
    # patients are numbered as they come
    np.testing.assert_allclose(np.sort(after.Phi), np.sort(before.Phi), atol=1e-15)


def test_one_image_a_patient_is_delong_exactly() -> None:
    rng = np.random.default_rng(1)
    for n in (12, 57, 400):
        y = (rng.random(n) < 0.3).astype(np.int8)
        y[:4] = [0, 0, 1, 1]
        s1 = np.round(y + rng.normal(size=n), 1)  # rounded: with ties
        s2 = s1 + rng.normal(size=n)
        A, S = delong(y, s1, s2)
        label = one_label(y).by_label[0]
        a1, a2 = auroc(label, s1), auroc(label, s2)
        assert [a1.value, a2.value] == pytest.approx(A, abs=1e-14)
        assert pytest.approx(np.diag(S), abs=1e-12) == [a1.V, a2.V]
        np.testing.assert_allclose(a1.Phi @ a2.Phi, S[0, 1], atol=1e-12)
        np.testing.assert_allclose((a1 - a2).V, [1, -1] @ S @ [1, -1], atol=1e-12)


def test_hanley_mcneil_1982_as_published() -> None:
    """109 CT ratings (Radiology 143:29, table I); A .8932, DeLong's s.e. .0307, 95 % by the
    normal distribution .83295 to .95339 (Stata Base Reference, roctab, example 1).
    """
    normal, abnormal = [33, 6, 6, 11, 2], [3, 2, 2, 11, 33]
    s = np.repeat(np.tile(np.arange(1.0, 6.0), 2), normal + abnormal)
    a = auroc(one_label(np.repeat([0, 1], [58, 51])).by_label[0], s)
    half = 1.959964 * a.V**0.5
    assert a.value == pytest.approx(0.8932, abs=5e-5)
    np.testing.assert_allclose(a.V**0.5, 0.0307, atol=5e-5)
    assert [a.value - half, a.value + half] == pytest.approx([0.83295, 0.95339], abs=5e-6)


OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0
1.6 5.6 5 1 3.8 5.7 5 1 3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1
4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1
3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1
3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1
3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1 3.3 5.7 6 1 3.7 6.9 5 1
3.6 6.6 5 1
"""


def test_delong_1988_ovarian_cancer_as_published() -> None:
    """The example of DeLong, DeLong and Clarke-Pearson (Biometrics 44:837): albumin, total
    protein, K-G score, outcome; areas and standard errors as in SAS/STAT, PROC LOGISTIC,
    "Comparing Receiver Operating Characteristic Curves".
    """
    albumin, protein, kg, y = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4).T
    label = one_label(y).by_label[0]
    alb, score, tp = (auroc(label, s) for s in (albumin, 10 - kg, protein))
    found = [(e.value, e.V**0.5) for e in (alb, score, tp, alb - score, tp - score)]
    published = [
        (0.7366, 0.0927),
        (0.7258, 0.1028),
        (0.6478, 0.1000),
        (0.0108, 0.0953),
        (-0.0780, 0.1046),
    ]
    np.testing.assert_allclose(found, published, atol=5e-5)


def obuchowski(y: np.ndarray, s: np.ndarray, patient: np.ndarray) -> float:
    """The variance of Obuchowski 1997 (Biometrics 53:567), from its sums over clusters."""
    wins = (s[y == 1][:, None] > s[y == 0]) + 0.5 * (s[y == 1][:, None] == s[y == 0])
    A, (M, N) = wins.mean(), wins.shape
    G = patient.max() + 1
    X, m = (np.bincount(patient[y == 1], w, G) for w in (wins.mean(axis=1), np.ones(M)))
    Y, n = (np.bincount(patient[y == 0], w, G) for w in (wins.mean(axis=0), np.ones(N)))
    I10, I01 = np.count_nonzero(m), np.count_nonzero(n)
    S10 = I10 / ((I10 - 1) * M) * np.sum((X - m * A) ** 2)
    S01 = I01 / ((I01 - 1) * N) * np.sum((Y - n * A) ** 2)
    S11 = G / (G - 1) * np.sum((X - m * A) * (Y - n * A))
    return S10 / M + S01 / N + 2 * S11 / (M * N)


def test_leaving_patients_out_gives_the_same_variance() -> None:
    """The jackknife over clusters, each class on its own: of patients with one class alone."""
    rng = np.random.default_rng(12)
    patient = np.repeat(np.arange(40), rng.integers(1, 6, 40))
    y = (np.arange(40) % 3 == 0)[patient]
    s = y + rng.normal(size=len(y))
    cases = Cases(("x",), y[:, None].astype(np.int8), patient, 40).by_label[0]
    found = auroc(cases, s)
    for members in (np.unique(patient[y]), np.unique(patient[~y])):
        left = []
        for g in members:
            rest = patient != g
            left.append(brute_force_auroc(y[rest].astype(int), s[rest]))
        I = len(members)  # noqa: E741 - the formula's symbol
        jackknife = (I - 1) / I * np.sum((np.array(left) - found.value) ** 2)
        np.testing.assert_allclose(np.sum(found.Phi[members] ** 2), jackknife, rtol=1e-10)


def test_clustered_variance_agrees_with_obuchowski() -> None:
    """They differ in the small-sample factors alone, which are near 1 for hundreds of patients."""
    cases, models = clustered(np.random.default_rng(10), patients=300)
    for column, label in enumerate(cases.by_label):
        for s in models:
            score = s[label.rows, column]
            expected = obuchowski(label.y.astype(int), score, label.patient)
            np.testing.assert_allclose(auroc(label, s[:, column]).V, expected, rtol=0.02)


@settings(max_examples=50)
@given(cases_with_ties, st.randoms(use_true_random=False))
def test_swapping_two_models_flips_the_sign_and_nothing_else(rows: Rows, random: Random) -> None:
    y, s = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=float)
    other = np.array([random.randrange(7) for _ in rows], dtype=float)
    label = one_label(y, np.array([random.randrange(10) for _ in rows])).by_label[0]
    ours, theirs = auroc(label, s), auroc(label, other)
    D, swapped = difference_inference(ours - theirs), difference_inference(theirs - ours)
    assert swapped.value == -D.value
    assert (swapped.p is None, swapped.low is None) == (D.p is None, D.low is None)
    if D.low is not None:
        assert (swapped.low, swapped.high) == pytest.approx((-D.high, -D.low))
        assert swapped.nu == pytest.approx(D.nu)
    if D.p is not None:
        assert swapped.p == pytest.approx(D.p)


@settings(max_examples=50)
@given(cases_with_ties, st.randoms(use_true_random=False))
def test_splitting_a_patient_in_two_takes_away_what_tied_the_halves(
    rows: Rows, random: Random
) -> None:
    """V' = V - 2 phi_a phi_b: wider just where the positives of a patient made up for its
    negatives. The value stays, and so does every other patient.
    """
    y, s = np.array([r[0] for r in rows]), np.array([r[1] for r in rows], dtype=float)
    patient = np.array([random.randrange(6) for _ in rows])
    chosen = patient == random.choice(patient.tolist())
    split = np.where(chosen & y, 6, patient)  # positives away from negatives: I1, I0 stay
    whole = auroc(Cases(("x",), y[:, None].astype(np.int8), patient, 7).by_label[0], s)
    parted = auroc(Cases(("x",), y[:, None].astype(np.int8), split, 7).by_label[0], s)
    a, b = parted.Phi[patient[chosen][0]], parted.Phi[6]
    assert parted.value == whole.value
    np.testing.assert_allclose(
        parted.V_patients, whole.V_patients - 2 * a * b, rtol=1e-9, atol=1e-15
    )
    others = np.arange(6) != patient[chosen][0]
    np.testing.assert_array_equal(parted.Phi[:6][others], whole.Phi[:6][others])


def test_unknown_labels_are_left_out() -> None:
    rng = np.random.default_rng(2)
    cases, (s, _) = clustered(rng)
    known = cases.truth[:, 1] != UNKNOWN
    alone = Cases(("l1",), cases.truth[known][:, 1:2], cases.patient[known], cases.G)
    with_missing = auroc(cases.by_label[1], s[:, 1])
    without = auroc(alone.by_label[0], s[known, 1])
    assert with_missing.value == without.value
    np.testing.assert_array_equal(with_missing.Phi, without.Phi)


def macro_auroc(truth: np.ndarray, s: np.ndarray) -> float:
    return float(np.mean([brute_force_auroc(truth[:, k], s[:, k]) for k in range(s.shape[1])]))


def test_variance_agrees_with_a_cluster_bootstrap() -> None:
    rng = np.random.default_rng(3)
    cases, (s1, s2) = clustered(rng, patients=250, labels=2)
    by_patient = [np.flatnonzero(cases.patient == g) for g in range(cases.G)]
    replicates = []
    for _ in range(600):  # patients drawn with replacement
        rows = np.concatenate([by_patient[g] for g in rng.integers(0, cases.G, cases.G)])
        truth = cases.truth[rows]
        replicates.append([macro_auroc(truth, s1[rows]), macro_auroc(truth, s2[rows])])
    bootstrap = np.cov(np.array(replicates).T)
    a1, a2 = (macro(cases, label_aurocs(cases, s)) for s in (s1, s2))
    np.testing.assert_allclose(a1.V, bootstrap[0, 0], rtol=0.2)  # Monte-Carlo error is 6 %
    np.testing.assert_allclose(a1.Phi @ a2.Phi, bootstrap[0, 1], rtol=0.2)
    np.testing.assert_allclose((a1 - a2).V, [1, -1] @ bootstrap @ [1, -1], rtol=0.2)

    independent = Cases(cases.labels, cases.truth, np.arange(len(s1)), len(s1))
    naive = macro(independent, label_aurocs(independent, s1))
    assert 0.7 * bootstrap[0, 0] > naive.V


def test_macro_has_the_covariance_of_its_labels() -> None:
    cases, (s, _) = clustered(np.random.default_rng(4))
    labels = label_aurocs(cases, s)
    Phi = np.stack([a.Phi for a in labels])
    covariance = Phi @ Phi.T  # (L, L)
    found = macro(cases, labels)
    assert found.value == pytest.approx(np.mean([a.value for a in labels]))
    np.testing.assert_allclose(found.V, covariance.mean(), rtol=1e-12)


def test_macro_is_the_mean_of_what_can_be_estimated() -> None:
    cases, (s, _) = clustered(np.random.default_rng(5))
    cases.truth[cases.truth[:, 2] == 1, 2] = UNKNOWN
    labels = label_aurocs(cases, s)
    assert labels[2] is None
    found = macro(cases, labels)
    assert found.value == np.mean([a.value for a in labels if a is not None])
    assert macro(cases, [None] * len(labels)) is None


def test_a_subgroup_is_ranked_inside_itself_and_zero_outside() -> None:
    rng = np.random.default_rng(6)
    cases, (s, _) = clustered(rng)
    female = (rng.random(cases.G) < 0.5)[cases.patient]
    inside = auroc(cases.within(female).by_label[0], s[:, 0])
    outside = auroc(cases.within(~female).by_label[0], s[:, 0])
    alone = Cases.of(["x"], cases.truth[female, :1], [f"{p:03d}" for p in cases.patient[female]])
    assert inside.value == auroc(alone.by_label[0], s[female, 0]).value
    assert not inside.Phi[np.unique(cases.patient[~female])].any()
    gap = inside - outside  # no patient is in both groups
    np.testing.assert_allclose(gap.V, inside.V + outside.V, rtol=1e-12)
    masked = auroc(cases.by_label[0], s[:, 0]).Phi.copy()
    masked[np.unique(cases.patient[~female])] = 0
    assert not np.allclose(masked, inside.Phi)


def test_seeds_average_values_and_influences() -> None:
    cases, runs = clustered(np.random.default_rng(7))
    singles = [auroc(cases.by_label[0], s[:, 0]) for s in runs]
    both = over_seeds(singles)
    assert list(both.values) == [s.value for s in singles]
    np.testing.assert_allclose(both.Phi, (singles[0].Phi + singles[1].Phi) / 2)
    s2 = np.var(both.values, ddof=1)
    apart = sum(float((s.Phi - both.Phi) @ (s.Phi - both.Phi)) for s in singles) / 2
    expected = max(both.Phi @ both.Phi - apart, 0) + s2 / 2
    np.testing.assert_allclose(both.V, max(expected, both.Phi @ both.Phi))


def test_a_class_that_is_missing_or_in_one_patient() -> None:
    assert auroc(one_label([1, 1, 1]).by_label[0], np.array([1.0, 2.0, 3.0])) is None
    s = np.array([0.9, 0.2, 0.4, 0.1, 0.5])
    one_patient = auroc(one_label([1, 1, 0, 0, 0], [0, 0, 1, 2, 3]).by_label[0], s)
    assert one_patient.value == pytest.approx(2 / 3)
    assert one_patient.V is None
    assert one_patient.nu is None


@pytest.mark.parametrize("labels", range(1, 15))
def test_the_macro_of_perfect_rankings_is_exactly_one(labels: int) -> None:
    y = np.tile([0, 1], 12).astype(np.int8)
    cases = Cases.of(
        [f"l{k}" for k in range(labels)],
        np.repeat(y[:, None], labels, axis=1),
        [f"p{i // 2}" for i in range(len(y))],
    )
    perfect = np.repeat(y[:, None].astype(float), labels, axis=1)
    A = over_seeds([macro(cases, label_aurocs(cases, perfect)) for _ in range(3)])
    said = auroc_inference(A)
    assert (said.value, said.high, said.exact) == (1.0, 1.0, True)


def test_who_bears_a_macro_is_counted_by_each_labels_rarer_class() -> None:
    """Two patients lack one finding and three have another; a third finding everybody has."""
    patient = np.arange(40)
    truth = np.stack([patient >= 2, patient >= 37, patient >= 0], axis=1).astype(np.int8)
    cases = Cases.of(["a", "b", "c"], truth, [f"p{i}" for i in patient])
    assert [label.fewest for label in cases.by_label] == [2, 3, 0]
    assert cases.together == 5
