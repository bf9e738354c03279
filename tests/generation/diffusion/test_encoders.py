import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_schemas.findings import FINDINGS, Finding, Race, Sex
from api_schemas.generation import Condition
from services.generation.diffusion.encoders import ENCODERS, ConditionIncomplete

MASKED = ENCODERS["masked/1"]
PAPER = ENCODERS["paper22"]
FULL = Condition(
    age=67, sex=Sex.MALE, race=Race.ASIAN, findings=dict.fromkeys(FINDINGS, 0) | {Finding.EDEMA: 1}
)

optional = st.none
conditions = st.builds(
    Condition,
    age=optional() | st.integers(0, 120),
    sex=optional() | st.sampled_from(Sex),
    race=optional() | st.sampled_from(Race),
    findings=st.dictionaries(
        st.sampled_from(tuple(f for f in Finding if f is not Finding.NO_FINDING)),
        st.sampled_from((0, 1)),
    ),
)


def test_nothing_known_is_all_zero() -> None:
    assert not MASKED.encode([Condition()]).any()


@given(conditions, conditions)
def test_different_conditions_have_different_vectors(a: Condition, b: Condition) -> None:
    x, y = MASKED.encode([a, b])
    assert x.shape == (MASKED.width,)
    assert (a == b) == np.array_equal(x, y)


@given(conditions)
def test_hiding_an_attribute_is_not_knowing_it(condition: Condition) -> None:
    """Multiplying an attribute's entries by 0 must give the vector of it being unknown."""
    fields = ("age", "sex", "race")
    whole = MASKED.encode([condition])[0]
    for number, field in enumerate(fields):
        unknown = condition.model_copy(update={field: None})
        hidden = whole * (MASKED.attribute != number)
        np.testing.assert_array_equal(hidden, MASKED.encode([unknown])[0])
    for number, finding in enumerate(FINDINGS, start=len(fields)):
        rest = {f: v for f, v in condition.findings.items() if f is not finding}
        hidden = whole * (MASKED.attribute != number)
        unknown = condition.model_copy(update={"findings": rest})
        np.testing.assert_array_equal(hidden, MASKED.encode([unknown])[0])


def test_paper22_is_the_published_vector() -> None:
    vector = PAPER.encode([FULL])[0]
    edema = 8 + FINDINGS.index(Finding.EDEMA)
    assert vector.tolist() == [6, 0, 1, 0, 0, 0, 0, 1] + [float(i == edema) for i in range(8, 22)]


@pytest.mark.parametrize("field", ["age", "sex", "race"])
def test_paper22_knows_no_unknown(field: str) -> None:
    with pytest.raises(ConditionIncomplete):
        PAPER.encode([FULL.model_copy(update={field: None})])


def test_no_conditions() -> None:
    assert MASKED.encode([]).shape == (0, MASKED.width)
