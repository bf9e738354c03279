"""Terms are inherited: the strictest of several counts, and silence is no permission."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_schemas.imports import ChexpertImport, CsvImport, NihImport
from api_schemas.terms import FREE, UNSTATED, Licence, strictest

permission = st.sampled_from([True, False, None])
licences = st.builds(
    Licence,
    name=st.sampled_from(["", "A", "B"]),
    may_export=permission,
    may_share_derived=permission,
    notes=st.sampled_from(["", "note"]),
)


@given(given=st.lists(licences, min_size=1, max_size=5))
def test_no_permission_is_wider_than_any_of_its_sources(given: list[Licence]) -> None:
    made = strictest(given)
    for name in ("may_export", "may_share_derived"):
        permissions = [getattr(each, name) for each in given]
        expected = False if False in permissions else None if None in permissions else True
        assert getattr(made, name) is expected
    for each in given:
        assert each.name in made.name


@given(given=st.lists(licences, min_size=1, max_size=4))
def test_inheriting_in_two_steps_forbids_as_much(given: list[Licence]) -> None:
    at_once, in_two = strictest([*given, FREE]), strictest([strictest(given), FREE])
    assert (at_once.may_export, at_once.may_share_derived) == (
        in_two.may_export,
        in_two.may_share_derived,
    )


def test_one_source_hands_its_licence_on_whole() -> None:
    licence = Licence(name="A", url="https://example.org/", may_export=False)
    assert strictest([licence, licence]) == licence


def test_no_source_permits_nothing() -> None:
    assert strictest([]).may_export is None


@pytest.mark.parametrize("url", ["javascript:alert(1)", "file:///etc/passwd", "x"])
def test_a_link_is_a_web_address(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        Licence.model_validate({"url": url})


def test_known_datasets_bring_their_licence() -> None:
    folder = {"name": "x", "path": "x"}
    closed = ChexpertImport(format="chexpert", **folder).licence
    assert (closed.may_export, closed.may_share_derived) == (False, None)
    assert NihImport(format="nih", **folder).licence.may_export
    assert CsvImport(format="chexpert_csv", site="s", **folder).licence == UNSTATED
