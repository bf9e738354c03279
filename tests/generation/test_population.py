"""What a request leaves open is lent by somebody of the training population, jointly."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_schemas.findings import FINDINGS, Finding, Race, Sex
from api_schemas.generation import Condition, ConditionRequest
from services.generation.service.population import POPULATION, Population, condition_of
from services.generation.service.problems import NobodyMatches

LABELS = [f for f in Finding if f is not Finding.NO_FINDING][:3]

maybe_sex, maybe_race = (st.none() | st.sampled_from(kind) for kind in (Sex, Race))
rows = st.fixed_dictionaries(
    {
        "age": st.none() | st.integers(20, 23),
        "sex": maybe_sex,
        "race": maybe_race,
        **{str(f): st.sampled_from([None, -1, 0, 1]) for f in LABELS},
    }
)
requests = st.builds(
    ConditionRequest,
    age=st.none() | st.integers(20, 23) | st.just((20, 22)),
    sex=maybe_sex,
    race=maybe_race,
    findings=st.dictionaries(st.sampled_from(LABELS), st.sampled_from([0, 1]), max_size=2),
    count=st.integers(1, 5),
)


def population(rows: list[dict[str, Any]], encoder: str) -> Population:
    blank = dict.fromkeys((str(f) for f in FINDINGS), None)
    records = [
        {"patient_id": f"p{n}", "sample_id": f"s{n}", "pixel_sha256": "0" * 64, **blank, **row}
        for n, row in enumerate(rows)
    ]
    return Population.of(pa.Table.from_pylist(records, schema=POPULATION), encoder)


def drawn(from_: Population, request: ConditionRequest, seed: int, **more: bool) -> list[Condition]:
    found = from_.draw([request], seed, **{"nearest": False, **more})
    return [each.condition for each in found]


def fits(condition: Condition, request: ConditionRequest) -> bool:
    low, high = request.age if isinstance(request.age, tuple) else (request.age, request.age)
    return (
        (request.age is None or (condition.age is not None and low <= condition.age <= high))
        and request.sex in {None, condition.sex}
        and request.race in {None, condition.race}
        and all(condition.findings.get(f) == value for f, value in request.findings.items())
    )


@pytest.mark.parametrize("encoder", ["masked/1", "paper22"])
@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=12), requests, st.integers(0, 2**40))
def test_who_is_drawn(
    encoder: str, rows: list[dict[str, Any]], request: ConditionRequest, seed: int
) -> None:
    people = population(rows, encoder)
    there = [condition for condition in people.conditions if fits(condition, request)]
    if encoder == "paper22":
        there = [c for c in there if None not in {c.age, c.sex, c.race}]
    if not there:
        with pytest.raises(NobodyMatches):
            drawn(people, request, seed)
        return
    found = drawn(people, request, seed)
    assert len(found) == request.count
    assert all(condition in there for condition in found)  # all of it is one person's
    assert found == drawn(people, request, seed)
    if encoder == "paper22":
        assert all(set(condition.findings) == set(FINDINGS) for condition in found)


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=12), requests, st.integers(0, 2**40))
def test_the_nearest_keep_what_was_fixed(
    rows: list[dict[str, Any]], request: ConditionRequest, seed: int
) -> None:
    for condition in drawn(population(rows, "masked/1"), request, seed, nearest=True):
        assert fits(condition, request)


def test_the_seed_decides_and_entries_do_not_disturb_each_other() -> None:
    people = population([{"age": 20 + n} for n in range(50)], "masked/1")
    one, two = ConditionRequest(count=20), ConditionRequest(sex=None, count=5)
    first = list(people.draw([one, two], 1, nearest=False))
    assert first == list(people.draw([one, two], 1, nearest=False))
    assert first[:20] != list(people.draw([one], 2, nearest=False))
    assert first[:20] == list(people.draw([one], 1, nearest=False))


def test_uncertain_is_unknown_or_where_there_is_no_word_for_it_absent() -> None:
    row = {"age": 20, "sex": "Male", "race": "White", str(LABELS[0]): -1, str(LABELS[1]): 1}
    blank = dict.fromkeys((str(f) for f in FINDINGS), None)
    assert condition_of({**blank, **row}).findings == {LABELS[1]: 1}
    (whole,) = population([row], "paper22").conditions
    assert whole.findings == dict.fromkeys(FINDINGS, 0) | {LABELS[1]: 1}
