"""Which images a source may take."""

from dataclasses import replace
from hashlib import sha256
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_schemas.arms import Source
from api_schemas.base import DatasetRef, GenerationRef
from api_schemas.findings import Ethnicity, Finding
from api_schemas.selection import Filter
from services.training.service.pools import held, pool, unit
from services.training.service.samples import Samples, in_order_of_use, read_samples
from tests.training.manifests import manifest

REAL, COHORT = DatasetRef(dataset=UUID(int=1)), GenerationRef(generation=UUID(int=2))
IMAGES = 120
PATIENTS = [f"p{i // 3}" for i in range(IMAGES)]  # three images each


def people() -> Samples:
    """Every sixth image is a test image; some people's attributes nobody stated."""
    split = ["test" if i % 6 == 5 else "train" for i in range(IMAGES)]
    labels = {Finding.EDEMA: [(1, 0, -1, None)[i % 4] for i in range(IMAGES)]}
    table = manifest(PATIENTS, labels, split=split)
    columns = {
        "sex": [("Female", "Male", None)[i % 3] for i in range(IMAGES)],
        "age": [None if i % 7 == 0 else i % 90 for i in range(IMAGES)],
        "view": [("AP", "PA")[i % 2] for i in range(IMAGES)],
        "ethnicity": [(*Ethnicity, None)[i % 3] for i in range(IMAGES)],
    }
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        kind = table.schema.field(at)
        table = table.set_column(at, kind, pa.array(values, kind.type))
    return read_samples(table)


SAMPLES = people()


def chosen(**more: Any) -> set[int]:
    """Rows of the manifest that a source takes."""
    source = Source(data=REAL, **more)
    return set(SAMPLES.split("train")[pool(SAMPLES, source)].tolist())


@pytest.mark.parametrize("data", [REAL, COHORT])
@pytest.mark.parametrize("more", [{}, {"fraction": 0.3}, {"where": Filter(sex=["Male"])}])
def test_so_many_are_held_as_can_be_taken(data, more) -> None:
    source = Source(data=data, **more)
    assert held(SAMPLES, source) == len(pool(SAMPLES, source)) > 0


def test_everything_in_the_usual_order() -> None:
    order = in_order_of_use(SAMPLES, SAMPLES.split("train"))
    np.testing.assert_array_equal(pool(SAMPLES, Source(data=REAL)), order)


@pytest.mark.parametrize(
    ("where", "meant"),
    [
        ({"sex": ["Female"]}, lambda i: i % 3 == 0),
        ({"sex": ["unknown", "Male"]}, lambda i: i % 3 != 0),
        ({"ethnicity": ["Hispanic or Latino", "unknown"]}, lambda i: i % 3 != 1),
        ({"age_from": 40}, lambda i: i % 7 and i % 90 >= 40),
        ({"age_to": 39}, lambda i: i % 7 and i % 90 < 40),
        ({"view": ["PA"], "sex": ["Female"]}, lambda i: i % 6 == 3),
        ({"present": ["Edema"]}, lambda i: i % 4 == 0),
        ({"absent": ["Edema"]}, lambda i: i % 4 == 1),
        ({"uncertain": ["Edema"]}, lambda i: i % 4 == 2),
        ({"blank": ["Edema"]}, lambda i: i % 4 == 3),
        ({"site": ["elsewhere"]}, lambda _: False),
        ({"fold": [1]}, lambda _: False),
    ],
)
def test_a_selection_takes_what_meets_it(where, meant) -> None:
    expected = {i for i in range(IMAGES) if i % 6 != 5 and meant(i)}
    assert chosen(where=Filter(**where)) == expected


def test_a_selection_by_split_is_refused() -> None:
    with pytest.raises(ValueError, match="takes split `train`"):
        Source(data=REAL, where=Filter(split=["test"]))


@given(st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_smaller_share_of_patients_is_part_of_a_larger_one(a, b) -> None:
    less, more = chosen(fraction=min(a, b)), chosen(fraction=max(a, b))
    assert less <= more


def test_a_fraction_takes_whole_patients() -> None:
    tenth = chosen(fraction=0.1)
    patients = {PATIENTS[i] for i in tenth}
    assert len(patients) == 4  # of forty
    assert tenth == {i for i in range(IMAGES) if i % 6 != 5 and PATIENTS[i] in patients}


@pytest.mark.parametrize("more", [{}, {"fraction": 0.3}])
def test_names_decide_nothing(more) -> None:
    """Another installation gives the same patients and images other names, in another order."""
    names = {patient: sha256(patient.encode()).hexdigest() for patient in PATIENTS}
    renamed = replace(
        SAMPLES,
        ids=np.array([f"{len(PATIENTS) - i:04d}" for i in range(IMAGES)], dtype=object),
        patients=np.array([names[p] for p in SAMPLES.patients], dtype=object),
    )
    source = Source(data=REAL, **more)
    np.testing.assert_array_equal(pool(renamed, source), pool(SAMPLES, source))


def test_one_picture_listed_twice_keeps_its_order() -> None:
    pixels = SAMPLES.pixels.copy()
    pixels[:] = pixels[0]
    order = in_order_of_use(replace(SAMPLES, pixels=pixels), np.arange(IMAGES))
    assert sorted(order) == list(range(IMAGES))
    assert list(order) != list(range(IMAGES))


def test_a_fraction_is_of_those_who_are_selected() -> None:
    women = chosen(where=Filter(sex=["Female"]))
    some = chosen(where=Filter(sex=["Female"]), fraction=0.25)
    assert some < women
    assert len({PATIENTS[i] for i in some}) == 10


def test_a_multiple_counts_in_what_is_selected() -> None:
    half = Source(data=REAL, fraction=0.5)
    assert unit(SAMPLES, half) == len(pool(SAMPLES, half))
    women = Source(data=REAL, where=Filter(sex=["Female"]))
    assert unit(SAMPLES, women) == 40


def test_a_cohorts_fraction_gives_less_not_of_fewer() -> None:
    half = Source(data=COHORT, fraction=0.5)
    assert len(pool(SAMPLES, half)) == 100
    assert unit(SAMPLES, half) == 50
