"""A cohort beside real images: floors, and pairs of the same conditions."""

import numpy as np
import polars as pl
import pytest

from api_schemas.findings import FINDINGS
from services.evaluation.statistics.features import OFFERED, Descriptors, GreyLevels, Texture
from services.evaluation.statistics.quality import (
    PAIRS,
    PAIRS_A_CONDITION,
    Set,
    distances,
    diversity,
    draw_pairs,
)


class Plain:
    """Features that are given."""

    name, version, about, dimension = "plain", "1", "as given", 4

    def __call__(self, images) -> np.ndarray:
        raise NotImplementedError


def gaussian(seed: int, patients: int, mean: float = 0.0, each: int = 1) -> Set:
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), each)
    features = mean + rng.normal(size=(patients, 4))[patient] + rng.normal(size=(len(patient), 4))
    return Set(features, patient)


def test_a_cohort_as_good_as_real_is_at_the_floor() -> None:
    told = distances(Plain(), gaussian(1, 400), gaussian(2, 800), 0)
    assert (told.images, told.draws, told.blocks) == (400, 10, 10)
    frechet, kernel = told.frechet, told.kernel
    assert frechet.cohort.value == pytest.approx(frechet.floor.value, abs=0.1)
    for scored in (kernel.cohort, kernel.floor):
        assert scored.error is not None
        assert abs(scored.value) < 4 * scored.error


def test_a_cohort_that_lies_elsewhere_is_above_it() -> None:
    told = distances(Plain(), gaussian(1, 400, mean=1.0), gaussian(2, 800), 0)
    assert told.frechet.cohort.value == pytest.approx(4 + told.frechet.floor.value, rel=0.2)
    assert told.kernel.cohort.value > told.kernel.floor.value + 5 * told.kernel.cohort.error


def test_all_that_is_compared_has_the_same_number_of_images() -> None:
    few = distances(Plain(), gaussian(1, 50), gaussian(2, 300, each=3), 0)
    assert few.images == 50
    many = distances(Plain(), gaussian(1, 5000), gaussian(2, 100, each=3), 0)
    assert many.images == 150
    # bias falls with n: at 50 the floor is higher than at 450
    larger = distances(Plain(), gaussian(1, 450), gaussian(2, 300, each=3), 0)
    assert few.frechet.floor.value > 2 * larger.frechet.floor.value


def test_the_same_seed_gives_the_same_numbers() -> None:
    sets = gaussian(1, 60), gaussian(2, 100, each=2)
    first, again = (distances(Plain(), *sets, 3) for _ in range(2))
    assert first == again
    assert distances(Plain(), *sets, 4) != first


def people(rows: list[tuple[str, str, int, str | None]]) -> pl.DataFrame:
    """Of (patient, sex, age, finding)."""
    columns = {"patient_id": [r[0] for r in rows], "sex": [r[1] for r in rows]}
    columns["age"] = [r[2] for r in rows]
    columns |= {str(f): [1 if r[3] == f else None for r in rows] for f in FINDINGS}
    return pl.DataFrame(columns)


def test_pairs_share_a_condition_and_no_patient() -> None:
    cohort = people([(f"s{i}", "Female", 60 + i % 20, "Edema") for i in range(40)])
    real = people(
        [("a", "Female", 61, "Edema"), ("a", "Female", 62, "Edema"), ("b", "Female", 69, "Edema")]
        + [("c", "Female", 70, "Edema"), ("c", "Female", 70, "Edema")]  # one patient: no pair
        + [(f"d{i}", "Male", 61, "Edema") for i in range(9)]  # not in the cohort
    )
    drawn = draw_pairs(cohort, real, 0)
    assert len(drawn.cohort) == len(drawn.reference) == len(drawn.condition) == 2
    for one, other in drawn.reference:
        assert {real["patient_id"][one], real["patient_id"][other]} == {"a", "b"}
    for one, other in drawn.cohort:
        assert one != other
        assert {cohort["age"][one] // 10, cohort["age"][other] // 10} == {6}


def test_no_condition_has_more_pairs_than_it_may_and_all_have_a_limit() -> None:
    one = people([(f"s{i}", "Male", 50, "Edema") for i in range(200)])
    assert len(draw_pairs(one, one, 0).cohort) == PAIRS_A_CONDITION
    every = [
        (f"{i}", sex, 10 * decade, f)
        for sex in ("Male", "Female")
        for decade in range(9)
        for f in FINDINGS
        for i in range(3)
    ]
    many = draw_pairs(people(every), people(every), 0)
    assert len(many.cohort) == len(many.reference) == len(many.condition) == PAIRS


def test_what_does_not_state_sex_or_age_has_no_condition() -> None:
    unstated = people([("a", None, 50, "Edema"), ("b", None, 50, "Edema")])
    assert len(draw_pairs(unstated, unstated, 0).cohort) == 0


def test_diversity_is_told_with_intervals_over_conditions() -> None:
    sets = people([(f"{i}", "Male", 10 * (i % 8), "Edema") for i in range(80)])
    drawn = draw_pairs(sets, sets, 0)
    rng = np.random.default_rng(1)
    real = rng.normal(0.4, 0.05, len(drawn.condition))
    told = diversity(drawn, real + 0.2, real, 3, 64)
    assert (told.pairs, told.conditions) == (8 * PAIRS_A_CONDITION, 8)
    assert told.difference.value == pytest.approx(0.2)
    assert told.difference.low is not None
    assert told.cohort.low < told.cohort.value == pytest.approx(real.mean() + 0.2)


def test_no_interval_of_a_likeness_leaves_0_to_1() -> None:
    two = people([(f"{i}", "Male", 10 * (i % 2), "Edema") for i in range(8)])
    drawn = draw_pairs(two, two, 0)
    low = np.where(drawn.condition == 0, 0.0, 0.2)
    told = diversity(drawn, low, 1.0 - low, 3, 64)
    assert (told.cohort.low, told.reference.high) == (0.0, 1.0)
    assert told.difference.low < told.difference.value < told.difference.high


@pytest.mark.parametrize("space", OFFERED, ids=lambda s: s.name)
def test_features_take_images_of_any_size(space) -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in ((32, 32), (64, 48), (200, 256))]
    found = space(images)
    assert (found.shape, found.dtype) == ((3, space.dimension), np.float64)
    assert np.allclose(found[1:2], space(images[1:2]), atol=1e-4)  # whatever stands beside


def test_descriptors_ignore_exposure_and_grey_levels_do_not() -> None:
    rng = np.random.default_rng(2)
    image = np.kron(rng.integers(60, 160, (16, 16)), np.ones((8, 8))).astype(np.uint8)
    brighter = image + np.uint8(40)
    a, b = Descriptors()([image, brighter])
    assert np.abs(a - b).max() < 0.05 < np.abs(a).max()
    assert (a @ a) / len(a) == pytest.approx(1, rel=1e-4)
    a, b = GreyLevels()([image, brighter])
    assert np.allclose(b - a, 40 / 255)


def test_texture_sees_blur_and_noise_that_the_others_do_not() -> None:
    rng = np.random.default_rng(3)
    shapes = np.kron(rng.integers(60, 160, (8, 8)), np.ones((8, 8)))
    image = np.clip(shapes + rng.normal(0, 6, (64, 64)), 0, 255)
    clean = shapes.astype(np.uint8)
    told = [Texture()([each.astype(np.uint8)])[0] for each in (image, clean)]
    finest = slice(0, 48)  # the details of 2 x 2 pixels
    assert told[0][finest].min() > 1
    assert (told[1][finest] == 0).all()
    for space, much in ((GreyLevels(), 0.02), (Descriptors(), 0.6)):
        a, b = space([image.astype(np.uint8), clean])
        assert np.abs(a - b).max() < much


def test_texture_is_the_energy_of_haar_details() -> None:
    stripes = np.tile(np.array([0, 10], np.uint8), (32, 16))  # a - b = -10, twice, halved
    told = Texture()([stripes])[0].reshape(3, 3, 16)
    assert np.allclose(told[0, 0], np.log10(1 + 100))
    assert (told[0, 1:] == 0).all()
    assert (told[1:] == 0).all()
