"""The phantom population: the same for the same numbers, and every label in the picture."""

from collections import Counter
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from api_schemas.findings import FINDINGS, Finding, Race, Sex, View, contradictions
from api_schemas.imports import PhantomSite
from services.datasets.importers.phantom import PhantomSample, draw, population

SIZE_PX = 32
PATHOLOGIES = [f for f in FINDINGS if f is not Finding.NO_FINDING]


@pytest.fixture(scope="module")
def healthy() -> list[PhantomSample]:
    one_each = [s for s in population(PhantomSite.A, 40, seed=5) if s.image == 0]
    return [
        replace(s, truth=frozenset({Finding.NO_FINDING}), age=55, view=View.PA, sex=Sex.MALE)
        for s in one_each
    ]


def contrast(one: list[PhantomSample], other: list[PhantomSample]) -> npt.NDArray[np.float64]:
    """Mean grey levels by which the pictures of `other` differ (H, W)."""
    difference = draw(other, SIZE_PX).astype(float) - draw(one, SIZE_PX)
    return np.abs(difference).mean(0)


def auroc(truth: npt.NDArray[np.bool_], score: npt.NDArray[np.float64]) -> float:
    positives = int(truth.sum())
    ranks = rankdata(score)[truth].sum() - positives * (positives + 1) / 2
    return float(ranks / (positives * (truth.size - positives)))


def ridge_scores(
    images: npt.NDArray[np.float64],
    truth: npt.NDArray[np.bool_],
    unseen: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Scores of a linear classifier on pixels: the least that can learn a visible label."""
    centre = images.mean(0)
    kernel = (images - centre) @ (images - centre).T
    dual = np.linalg.solve(kernel + 30 * np.eye(len(images)), truth - truth.mean(0))
    return (unseen - centre) @ ((images - centre).T @ dual)


@given(
    site=st.sampled_from(PhantomSite),
    seed=st.integers(0, 2**63 - 1),
    few=st.integers(1, 6),
    more=st.integers(0, 6),
)
@settings(max_examples=20, deadline=None)
def test_drawing_more_patients_changes_no_patient(
    site: PhantomSite, seed: int, few: int, more: int
) -> None:
    some, all_of_them = population(site, few, seed), population(site, few + more, seed)
    assert all_of_them[: len(some)] == some
    assert np.array_equal(draw(all_of_them, 16)[: len(some)], draw(some, 16))


def test_a_picture_does_not_depend_on_its_neighbours() -> None:
    samples = [s for site in PhantomSite for s in population(site, 30, seed=2)]
    together = draw(samples, SIZE_PX)
    assert together.dtype == np.uint8
    assert together.shape == (len(samples), SIZE_PX, SIZE_PX)
    for n in (0, 31, len(samples) - 1):
        assert np.array_equal(draw([samples[n]], SIZE_PX)[0], together[n])


def test_seed_and_site_make_other_people_and_other_pictures() -> None:
    a, b = population(PhantomSite.A, 20, seed=1), population(PhantomSite.A, 20, seed=2)
    assert {s.patient_id for s in a}.isdisjoint(s.patient_id for s in b)
    assert not np.array_equal(draw(a[:1], SIZE_PX), draw(b[:1], SIZE_PX))
    elsewhere = replace(a[0], site=PhantomSite.C)
    assert not np.array_equal(draw(a[:1], SIZE_PX), draw([elsewhere], SIZE_PX))


def test_images_of_one_patient_share_the_person_and_differ_in_the_picture() -> None:
    samples = population(PhantomSite.B, 200, seed=3)
    counts = Counter(s.patient for s in samples)
    assert set(counts.values()) == {1, 2, 3, 4, 5, 6}
    for index in (p for p, n in counts.items() if n > 1):
        mine = [s for s in samples if s.patient == index]
        assert len({(s.age, s.sex, s.race) for s in mine}) == 1
        first, second = draw(mine[:2], SIZE_PX)
        assert not np.array_equal(first, second)


@pytest.mark.parametrize("site", PhantomSite)
def test_labels_say_what_is_drawn_or_admit_not_to_know(site: PhantomSite) -> None:
    samples = population(site, 600, seed=7)
    labels = Counter(value for s in samples for value in s.labels.values())
    total = labels.total()
    assert 0.04 < labels[None] / total < 0.06
    assert 0.02 < labels[-1] / total < 0.04
    for s in samples:
        assert not contradictions(set(s.truth))
        assert s.truth
        assert all(value == (f in s.truth) for f, value in s.labels.items() if value in {0, 1})
    for finding in FINDINGS:
        share = sum(finding in s.truth for s in samples) / len(samples)
        assert 0.1 < share < 0.42, finding


@pytest.mark.parametrize("finding", PATHOLOGIES)
def test_every_finding_changes_the_picture_visibly(
    healthy: list[PhantomSample], finding: Finding
) -> None:
    ill = [replace(s, truth=frozenset({finding})) for s in healthy]
    change = np.abs(draw(ill, SIZE_PX).astype(int) - draw(healthy, SIZE_PX)).max((1, 2))
    assert (change > 12).all()


@pytest.mark.parametrize(
    ("finding", "rows"),
    [
        (Finding.PNEUMOTHORAX, slice(4, 18)),
        (Finding.ENLARGED_CARDIOMEDIASTINUM, slice(4, 18)),
        (Finding.CONSOLIDATION, slice(4, 16)),
        (Finding.EDEMA, slice(8, 22)),
        (Finding.PNEUMONIA, slice(14, 26)),
        (Finding.PLEURAL_EFFUSION, slice(14, 26)),
        (Finding.CARDIOMEGALY, slice(12, 26)),
    ],
)
def test_findings_stand_where_they_belong(
    healthy: list[PhantomSample], finding: Finding, rows: slice
) -> None:
    change = contrast(healthy, [replace(s, truth=frozenset({finding})) for s in healthy])
    assert change[rows].sum() > 0.9 * change.sum()


def test_demographics_and_view_change_the_picture(healthy: list[PhantomSample]) -> None:
    changed = {
        "sex": [replace(s, sex=Sex.FEMALE) for s in healthy],
        "age": [replace(s, age=85) for s in healthy],
        "view": [replace(s, view=View.AP) for s in healthy],
    }
    for name, other in changed.items():
        assert contrast(healthy, other).max() > 8, name


def test_the_race_code_is_in_the_frame_alone(healthy: list[PhantomSample]) -> None:
    pictures = {r: draw([replace(s, race=r) for s in healthy], SIZE_PX) for r in Race}
    inside = slice(2, -2)
    reference = pictures[Race.WHITE]
    for race, drawn in pictures.items():
        assert np.array_equal(drawn[:, inside, inside], reference[:, inside, inside])
        assert race is Race.WHITE or not np.array_equal(drawn[:, -2:], reference[:, -2:])


def test_every_picture_wears_the_phantom_frame() -> None:
    for site in PhantomSite:
        drawn = draw(population(site, 20, seed=9), 64).astype(float)
        ticks = drawn[:, :4].mean(1)  # (N, 64)
        assert (ticks.max(1) - ticks.min(1) > 80).all()


@pytest.mark.parametrize("site", PhantomSite)
def test_a_linear_classifier_finds_every_label_in_the_pixels(site: PhantomSite) -> None:
    samples = population(site, 900, seed=11)
    truth = np.array(
        [
            [*(f in s.truth for f in FINDINGS), s.sex is Sex.FEMALE, s.view is View.AP, s.age > 60]
            + [s.race is r for r in Race]
            for s in samples
        ]
    )
    images = draw(samples, SIZE_PX).reshape(len(samples), -1) / 255.0
    seen = np.array([s.patient < 600 for s in samples])
    scores = ridge_scores(images[seen], truth[seen], images[~seen])
    found = [auroc(truth[~seen, k], scores[:, k]) for k in range(truth.shape[1])]
    assert min(found) > 0.8
    assert np.mean(found[: len(FINDINGS)]) > 0.9
    assert min(found[: len(FINDINGS)]) < 0.99, "too easy: nothing could be compared on it"
