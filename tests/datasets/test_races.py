"""The words of registries for race and ethnicity."""

from collections import Counter
from pathlib import Path

import pytest

from api_schemas.findings import Ethnicity, Race
from services.datasets.importers.races import (
    ethnicity_of,
    ethnicity_of_one_question,
    is_known,
    race_of,
    remark_unknown_words,
)
from tests.datasets.reading import opened

FIELD = Path(__file__).parents[3] / "shared" / "field"


@pytest.mark.parametrize(
    ("words", "race"),
    [
        ("White", Race.WHITE),
        ("WHITE - RUSSIAN", Race.WHITE),
        ("White, Hispanic", Race.WHITE),
        ("BLACK/CAPE VERDEAN", Race.AFRICAN_AMERICAN),
        ("Black or African American", Race.AFRICAN_AMERICAN),
        ("ASIAN - ASIAN INDIAN", Race.ASIAN),
        ("Asian - Historical Conv", Race.ASIAN),
        ("AMERICAN INDIAN/ALASKA NATIVE", Race.AMERICAN_INDIAN),
        ("Native American, Hispanic", Race.AMERICAN_INDIAN),
        ("Native Hawaiian or Other Pacific Islander", Race.PACIFIC_ISLANDER),
        ("HISPANIC/LATINO - PUERTO RICAN", None),
        ("Caucasian", Race.WHITE),
        ("Other", None),
        ("UNABLE TO OBTAIN", None),
        ("White and Asian", None),
        ("Middle Eastern or North African", None),
        ("White, Middle Eastern or North African", None),
        ("White/Middle Eastern", Race.WHITE),
        ("North African", None),
        ("South African", None),
        ("White South African", Race.WHITE),
        ("African", Race.AFRICAN_AMERICAN),
        ("Black or African-American", Race.AFRICAN_AMERICAN),
        ("Not Black or African American", None),
        ("Not White", None),
        ("Non-Black", None),
        ("nonwhite", None),
        ("White: No", None),
        ("Race: White", Race.WHITE),
        ("Whitefeather", None),
        ("White Mountain Apache", None),
        ("Blackfoot", None),
        ("Eurasian", None),
        ("Other (White?)", None),
        ("Declined - White", None),
        ("Multiracial - White", None),
        ("White not of Hispanic origin", Race.WHITE),
        ("Black not of Hispanic origin", Race.AFRICAN_AMERICAN),
        ("Non-Hispanic White", Race.WHITE),
        ("Asian or Pacific Islander", None),
        ("ASIAN - SOUTH EAST ASIAN", Race.ASIAN),
        ("WHITE - OTHER EUROPEAN", Race.WHITE),
        ("Native Hawaiian and Other Pacific Islander", Race.PACIFIC_ISLANDER),
        ("American Indian or Alaska Native", Race.AMERICAN_INDIAN),
        ("", None),
    ],
)
def test_race_in_the_words_of_registries(words: str, race: Race | None) -> None:
    assert race_of(words) is race


@pytest.mark.parametrize(
    ("words", "ethnicity"),
    [
        ("Hispanic/Latino", Ethnicity.HISPANIC),
        ("Hispanic or Latino", Ethnicity.HISPANIC),
        ("HISPANIC/LATINO - PUERTO RICAN", Ethnicity.HISPANIC),
        ("White, Hispanic", Ethnicity.HISPANIC),
        ("Latina", Ethnicity.HISPANIC),
        ("Non-Hispanic/Non-Latino", Ethnicity.NOT_HISPANIC),
        ("Not Hispanic or Latino", Ethnicity.NOT_HISPANIC),
        ("Black, non-Hispanic", Ethnicity.NOT_HISPANIC),
        ("White not of Hispanic origin", Ethnicity.NOT_HISPANIC),
        ("Not of Hispanic, Latino, or Spanish origin", Ethnicity.NOT_HISPANIC),
        ("Neither Hispanic nor Latino", Ethnicity.NOT_HISPANIC),
        ("nonhispanic", Ethnicity.NOT_HISPANIC),
        ("isn't Hispanic", Ethnicity.NOT_HISPANIC),
        ("Hispanic: No", Ethnicity.NOT_HISPANIC),
        ("Hispanic: Yes", Ethnicity.HISPANIC),
        ("Hispanic (not White)", Ethnicity.HISPANIC),
        ("Latino/a", Ethnicity.HISPANIC),
        ("Not Hispanic; Hispanic", None),
        ("Hispanic or Latino: unknown", None),
        ("Hispanic?", None),
        ("Unknown whether Hispanic or Latino", None),
        ("Patient Refused", None),
        ("White", None),
        ("", None),
    ],
)
def test_ethnicity_in_the_words_of_registries(words: str, ethnicity: Ethnicity | None) -> None:
    assert ethnicity_of(words) is ethnicity


@pytest.mark.parametrize(
    ("words", "ethnicity"),
    [
        ("HISPANIC OR LATINO", Ethnicity.HISPANIC),
        ("BLACK/CAPE VERDEAN", Ethnicity.NOT_HISPANIC),
        ("WHITE - BRAZILIAN", None),
        ("SOUTH AMERICAN", None),
        ("MULTIPLE RACE/ETHNICITY", None),
        ("UNABLE TO OBTAIN", None),
        ("OTHER", None),
    ],
)
def test_who_answers_one_question_with_a_race_is_not_hispanic(
    words: str, ethnicity: Ethnicity | None
) -> None:
    assert ethnicity_of_one_question(words) is ethnicity


@pytest.mark.parametrize(
    ("words", "known"),
    [
        ("", True),
        ("OTHER", True),
        ("UNABLE TO OBTAIN", True),
        ("PORTUGUESE", True),
        ("Not White", True),
        ("Hispanic", True),
        ("Middle Eastern or North African", True),
        ("Whitefeather", False),
        ("White Mountain Apache", False),
        ("1", False),
    ],
)
def test_words_that_are_not_known_can_be_told(words: str, *, known: bool) -> None:
    assert is_known(words) is known


def test_a_remark_lists_the_words_that_are_not_known() -> None:
    assert not remark_unknown_words(Counter({"WHITE": 0}), "patients")
    (told,) = remark_unknown_words(Counter({f"word {n}": n for n in range(13)}), "patients")
    assert "by the number of patients: 'word 12' (12), 'word 11' (11)" in told
    assert told.endswith("'word 3' (3), and 2 more")


@pytest.mark.skipif(not FIELD.exists(), reason="no inputs from use (../shared/field)")
def test_the_demographics_from_use_are_read_as_expected() -> None:
    source = opened(FIELD, "chexpert", path="11_race_words", demographics="11_race_words/demo.csv")
    people = {sample.age: (sample.race, sample.ethnicity) for sample in source.usable()}
    nothing = (None, None)
    assert [people[age] for age in (1, 2, 5, 6, 30)] == [nothing] * 5
    assert people[45] == (Race.WHITE, Ethnicity.NOT_HISPANIC)
    assert people[47] == (None, Ethnicity.NOT_HISPANIC)
    (told,) = (remark for remark in source.remarks() if "words for race" in remark)
    assert "'South African' (1)" in told
