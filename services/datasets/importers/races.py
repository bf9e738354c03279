"""The many words of American registries for race, into the paper's five groups, and for ethnicity.

Ethnicity is no race: a patient recorded only as Hispanic or Latino is of none of the five.
"""

import re
from functools import lru_cache

from api_schemas.findings import Ethnicity, Race

_WORDS: tuple[tuple[str, Race], ...] = (
    (r"american indian|native american|alaska", Race.AMERICAN_INDIAN),
    (r"hawaiian|pacific islander", Race.PACIFIC_ISLANDER),
    (r"\bblack|african", Race.AFRICAN_AMERICAN),
    (r"\bwhite|caucasian", Race.WHITE),
    (r"\basian", Race.ASIAN),
)
_HISPANIC = re.compile(r"hispanic|latin[oax]\b", re.IGNORECASE)
_NOT_HISPANIC = re.compile(r"\bno[nt][\s-]*(hispanic|latin[oax]\b)", re.IGNORECASE)
_LATIN_AMERICAN = re.compile(r"south american|brazil", re.IGNORECASE)
_NOT_SAID = re.compile(r"unknown|declin|refus|unable|unavailable|not recorded", re.IGNORECASE)

WORDS_KEPT = 1024
"""Registries use few words for many patients."""


@lru_cache(WORDS_KEPT)
def race_of(words: str) -> Race | None:
    """The group that `words` name; None if they name none, or several."""
    found = {race for pattern, race in _WORDS if re.search(pattern, words, re.IGNORECASE)}
    return found.pop() if len(found) == 1 else None


@lru_cache(WORDS_KEPT)
def ethnicity_of(words: str) -> Ethnicity | None:
    """What `words` state; None if they do not speak of it. A race alone states nothing."""
    if not _HISPANIC.search(words) or _NOT_SAID.search(words):
        return None
    return Ethnicity.NOT_HISPANIC if _NOT_HISPANIC.search(words) else Ethnicity.HISPANIC


@lru_cache(WORDS_KEPT)
def ethnicity_of_one_question(words: str) -> Ethnicity | None:
    """Of a registry that asks for race and ethnicity in one question.

    Whoever answers it with one of the five groups, and no Latin American origin, counts as not
    Hispanic or Latino.
    """
    said = ethnicity_of(words)
    if said is None and race_of(words) is not None and not _LATIN_AMERICAN.search(words):
        return Ethnicity.NOT_HISPANIC
    return said
