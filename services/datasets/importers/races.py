"""The many words of American registries for race, into the paper's five groups.

Ethnicity is no race here: a patient recorded only as Hispanic or Latino is of none of the five.
"""

import re

from api_schemas.findings import Race

_WORDS: tuple[tuple[str, Race], ...] = (
    (r"american indian|native american|alaska", Race.AMERICAN_INDIAN),
    (r"hawaiian|pacific islander", Race.PACIFIC_ISLANDER),
    (r"\bblack|african", Race.AFRICAN_AMERICAN),
    (r"\bwhite|caucasian", Race.WHITE),
    (r"\basian", Race.ASIAN),
)


def race_of(words: str) -> Race | None:
    """The group that `words` name; None if they name none, or several."""
    found = {race for pattern, race in _WORDS if re.search(pattern, words, re.IGNORECASE)}
    return found.pop() if len(found) == 1 else None
