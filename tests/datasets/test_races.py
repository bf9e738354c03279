"""The words of registries for race and ethnicity."""

import pytest

from api_schemas.findings import Ethnicity, Race
from services.datasets.importers.races import (
    ethnicity_of,
    ethnicity_of_one_question,
    race_of,
)


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
