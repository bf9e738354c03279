"""What a filter chooses, against the same said in plain Python."""

from hashlib import sha256
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from api_schemas.findings import FINDINGS, Ethnicity, Finding, Race, Sex, View
from api_schemas.selection import Filter
from services.datasets.statistics.selection import meets, one_a_patient
from tests.datasets.tables import manifest

SITES = ("a", "b")
FEW = (Finding.EDEMA, Finding.FRACTURE)


def maybe(values: Any) -> st.SearchStrategy[Any]:
    return st.none() | st.sampled_from([str(v) for v in values])


rows = st.lists(
    st.fixed_dictionaries(
        {
            "split": st.sampled_from(["train", "validation", "test"]),
            "site": st.sampled_from(SITES),
            "fold": st.none() | st.integers(0, 3),
            "age": st.none() | st.integers(0, 100),
            "sex": maybe(Sex),
            "race": maybe(list(Race)[:2]),
            "ethnicity": maybe(Ethnicity),
            "view": maybe(View),
            **{str(f): st.sampled_from([1, 0, -1, None]) for f in FEW},
        }
    ),
    min_size=1,
    max_size=30,
)
some = st.lists(st.sampled_from(FEW), max_size=1)


def possible(**asked: Any) -> Filter | None:
    """None for what is refused because no sample could meet it."""
    try:
        return Filter(**asked)
    except ValidationError:
        low, high = asked["age_from"], asked["age_to"]
        labels = [f for name in ("present", "absent", "uncertain", "blank") for f in asked[name]]
        reversed_ages = None not in (low, high) and low > high
        assert reversed_ages or len(set(labels)) < len(labels)
        return None


filters = st.builds(
    possible,
    split=st.lists(st.sampled_from(["train", "validation", "test"]), max_size=2),
    fold=st.lists(st.integers(0, 3), max_size=2),
    site=st.lists(st.sampled_from(SITES), max_size=1),
    sex=st.lists(st.sampled_from([*Sex, "unknown"]), max_size=2),
    race=st.lists(st.sampled_from([*list(Race)[:2], "unknown"]), max_size=2),
    ethnicity=st.lists(st.sampled_from([*Ethnicity, "unknown"]), max_size=2),
    view=st.lists(st.sampled_from([*View, "unknown"]), max_size=2),
    age_from=st.none() | st.integers(0, 100),
    age_to=st.none() | st.integers(0, 100),
    present=some,
    absent=some,
    uncertain=some,
    blank=some,
).filter(lambda where: where is not None)


def chosen(row: dict[str, Any], where: Filter) -> bool:
    for name in ("split", "fold", "site", "sex", "race", "ethnicity", "view"):
        wanted = [str(v) for v in getattr(where, name)]
        value = "unknown" if row[name] is None else str(row[name])
        if wanted and value not in wanted:
            return False
    if (where.age_from, where.age_to) != (None, None):
        low, high = where.age_from or 0, 200 if where.age_to is None else where.age_to
        if row["age"] is None or not low <= row["age"] <= high:
            return False
    asked = {1: where.present, 0: where.absent, -1: where.uncertain, None: where.blank}
    return all(row[f] == value for value, findings in asked.items() for f in findings)


@given(rows=rows, where=filters)
def test_a_filter_chooses_what_it_says(rows: list[dict[str, Any]], where: Filter) -> None:
    found = manifest(rows).filter(meets(where))["sample_id"].to_list()
    assert found == [f"s{i}" for i, row in enumerate(rows) if chosen(row, where)]


def test_an_empty_filter_chooses_everything() -> None:
    table = manifest([{"age": None, **dict.fromkeys(FINDINGS)}, {"age": 3}])
    assert table.filter(meets(Filter())).equals(table)


@given(patients=st.lists(st.integers(0, 5), min_size=1, max_size=40), seed=st.integers(0, 9))
def test_one_image_of_each_patient_in_the_order_they_were(patients: list[int], seed: int) -> None:
    table = manifest([{"patient_id": f"p{p}"} for p in patients])
    drawn = one_a_patient(table, seed)
    assert sorted(drawn["patient_id"]) == sorted({f"p{p}" for p in patients})
    places = [int(name[1:]) for name in drawn["sample_id"]]
    assert places == sorted(places)


def test_which_image_depends_on_the_seed_and_the_pixels_alone() -> None:
    pixels = [sha256(str(i).encode()).hexdigest() for i in range(200)]
    table = manifest(
        [{"patient_id": f"p{i % 20}", "pixel_sha256": pixel} for i, pixel in enumerate(pixels)]
    )
    backwards = table.sort("sample_id", descending=True)
    first, again = one_a_patient(table, 1), one_a_patient(backwards, 1)
    assert sorted(first["sample_id"]) == sorted(again["sample_id"])
    elsewhere = table.with_columns(
        pl.col("sample_id").reverse(), pl.concat_str(pl.lit("z"), "patient_id").alias("patient_id")
    )
    renamed = one_a_patient(elsewhere, 1)
    assert renamed["pixel_sha256"].to_list() == first["pixel_sha256"].to_list()
    other = one_a_patient(table, 2)
    assert first.join(other, on="sample_id").height < first.height
    assert first.select(pl.len()).item() == 20
