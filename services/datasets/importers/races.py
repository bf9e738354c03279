"""Registries' words for race and ethnicity, read into the paper's five groups and two answers.

Only whole words and known phrases count: those of the three standards of the United States' Office
of Management and Budget (OMB, 1977, 1997 and 2024) and of MIMIC-IV and CheXpert. Words that name
none of the five groups, several of them, or one that is denied ("Not White") give no race. Middle
Eastern or North African, a category of its own since 2024, is none of the five. Ethnicity is no
race: a patient recorded only as Hispanic or Latino is of none of the five.
"""

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

from api_schemas.findings import Ethnicity, Race
from services.datasets.importers.fields import quoted

_OR = r"(?:\s*(?:/|,|,?\s(?:or|and|and/or))\s*)"
"""What joins the names of one group: "Black or African American", "Hispanic/Latino"."""
_AFRICAN_AMERICAN = r"(?:african|afro)[\s-]+americans?"
_INDIAN = r"american\s+indians?"
_ALASKA = r"alaskan?\s+natives?"
_ISLANDER = r"(?:other\s+)?pacific\s+island(?:ers?|s)?"
_PHRASES: Mapping[Race, str] = {
    Race.AMERICAN_INDIAN: rf"{_INDIAN}(?:{_OR}{_ALASKA})?|{_ALASKA}|native\s+americans?"
    rf"(?:{_OR}{_ALASKA})?|eskimo|aleut",
    Race.PACIFIC_ISLANDER: rf"(?:native\s+)?hawaiians?(?:{_OR}{_ISLANDER})?|{_ISLANDER}"
    r"|samoan|guamanian|chamorro|tongan|fijian|marshallese",
    Race.AFRICAN_AMERICAN: rf"blacks?(?:{_OR}{_AFRICAN_AMERICAN})?"
    rf"|{_AFRICAN_AMERICAN}(?:{_OR}blacks?)?|(?:^|(?<=[/,;(])|(?<=-\s))\s*african(?=\s*(?:$|[/,;)]))",
    Race.WHITE: rf"whites?(?:{_OR}caucasians?|\s*[/(-]\s*middle\s+eastern)?"
    rf"|caucasians?(?:{_OR}whites?)?",
    Race.ASIAN: r"(?:(?:south\s*-?east|south|east|central)\s+)?asians?(?:\s+indians?)?",
}
_QUALIFIERS = (
    r"american|british|irish|european|caribbean|(?:south )?african|hispanic|latin[oaxe]|of|origin"
    r"|descent|background|race|persons?|people|only|alone|any|other|and|or|yes"
)
"""Words that may stand beside the name of a group without another sign between them."""
_ELSEWHERE = r"middle\s+eastern|north\s+african|arabs?|arabic|mena"
"""OMB's group of 2024; beside one of the five, the patient is of several."""
_SEVERAL = re.compile(
    r"\bmulti|\bbi-?racial|\bmixed|more than one|two or more|\bhalf\b|\bpart\b", re.IGNORECASE
)
_HISPANIC_WORD = r"(?:hispanics?|latin[oaxe](?:/[oaxe])?s?|chican[oax]|spanish\s+origin)"
_HISPANIC = rf"{_HISPANIC_WORD}(?:{_OR}{_HISPANIC_WORD})*(?:\s+origin)?"
_DENIAL = r"(?P<before>\b(?:no|not|non|nor|never|neither|isn't)\b[\s-]*(?:of\s+|an?\s+)?)?"
_DENIED = r"(?P<after>\s*[:=?(\[-]+\s*(?:no|n|false|0)\s*(?=$|[,;)\]/|]))?"
_GLUED = re.compile(r"\bnon(?=hispanic|latin|white|caucasian|black|asian)", re.IGNORECASE)
_LATIN_AMERICAN = re.compile(
    r"\b(?:(?:south|central|latin) american|brazilian|mexican|cuban|puerto rican|dominican"
    r"|guatemalan|salvadoran|honduran|columbian|colombian)",
    re.IGNORECASE,
)
_NOT_SAID = re.compile(
    r"unknown|unspecified|undisclosed|undetermined|declin|refus|unable|unavailable|unsure|missing"
    r"|\bnot (?:recorded|known|stated|said|specified|reported|asked|available|applicable)"
    r"|prefer not|possibl|probabl|maybe|\bn/a\b|\?(?!\s*(?:no|yes|n|y)\b)",
    re.IGNORECASE,
)
_OF_NO_GROUP = re.compile(r"\bother\b|\bportuguese\b|\bnone\b|\bnan\b", re.IGNORECASE)

WORDS_KEPT = 1024
"""Registries use few words for many patients."""
WORDS_LISTED = 10
WORDS_LIMIT = 300
"""Longer words are none of a registry and count as unknown."""


def _whole(phrase: str) -> re.Pattern[str]:
    return re.compile(rf"{_DENIAL}(?<!\w)(?:{phrase})(?!\w){_DENIED}", re.IGNORECASE)


_RACES = {race: _whole(phrase) for race, phrase in _PHRASES.items()}
_OTHERS = _whole(_ELSEWHERE)
_ETHNICITY = _whole(_HISPANIC)
_NAME = "\x00"
_UNKNOWN_NAME = re.compile(
    rf"{_NAME}\s+(?!(?:{_QUALIFIERS}|no|not|non)\b)\w"
    rf"|(?<!\w)(?!(?:{_QUALIFIERS})\b)\w+\s+{_NAME}",
    re.IGNORECASE,
)
"""A name beside a word that makes another name of it, as in White Mountain Apache."""


@lru_cache(WORDS_KEPT)
def race_of(words: str) -> Race | None:
    """The group that `words` name; None if they name none, several, or deny one."""
    found, rest = _find_races(words)
    if not found or _NOT_SAID.search(words) or _SEVERAL.search(words):
        return None
    if (
        len(found) != 1
        or True in found.values()
        or _OTHERS.search(rest)
        or _UNKNOWN_NAME.search(rest)
    ):
        return None
    return next(iter(found))


@lru_cache(WORDS_KEPT)
def ethnicity_of(words: str) -> Ethnicity | None:
    """What `words` state; None if they do not speak of it, or say both. A race states nothing."""
    denied = {_denied(match) for match in _ETHNICITY.finditer(_hyphenated(words))}
    if len(denied) != 1 or _NOT_SAID.search(words):
        return None
    return Ethnicity.NOT_HISPANIC if denied.pop() else Ethnicity.HISPANIC


@lru_cache(WORDS_KEPT)
def ethnicity_of_one_question(words: str) -> Ethnicity | None:
    """What the answer to one question about race and ethnicity together states.

    Somebody who answers it with one of the five groups, and no Latin American origin, counts as
    not Hispanic or Latino.
    """
    if _ETHNICITY.search(_hyphenated(words)) or _LATIN_AMERICAN.search(_hyphenated(words)):
        return ethnicity_of(words)
    return None if race_of(words) is None else Ethnicity.NOT_HISPANIC


@lru_cache(WORDS_KEPT)
def is_known(words: str) -> bool:
    """Whether `words` are known, those that state neither race nor ethnicity among them."""
    if not words.strip():
        return True
    found, rest = _find_races(words)
    known = (_NOT_SAID, _SEVERAL, _OF_NO_GROUP, _LATIN_AMERICAN, _OTHERS, _ETHNICITY)
    return bool(found and not _UNKNOWN_NAME.search(rest)) or any(
        p.search(_hyphenated(words)) for p in known
    )


def remark_unknown_words(counts: Counter[str], counted: str) -> list[str]:
    """The remark on words that are not known; `counted` is what their numbers count."""
    most = [
        f"{quoted(words)} ({count})" for words, count in counts.most_common(WORDS_LISTED) if count
    ]
    if not most:
        return []
    more = len(+counts) - len(most)
    told = f"words for race that are not known and count as none, by the number of {counted}: "
    return [told + ", ".join(most) + (f", and {more} more" if more else "")]


def _find_races(words: str) -> tuple[dict[Race, bool], str]:
    """Each group that `words` name, whether it is denied, and the words without their names."""
    rest, found = _hyphenated(words), dict[Race, bool]()
    for race, pattern in _RACES.items():
        matches = list(pattern.finditer(rest))
        if matches:
            found[race] = any(map(_denied, matches))
            rest = pattern.sub(_NAME, rest)
    return found, rest


def _hyphenated(words: str) -> str:
    """`words`, nonwhite as non-white."""
    return _GLUED.sub("non-", words) if len(words) <= WORDS_LIMIT else ""


def _denied(match: re.Match[str]) -> bool:
    return bool(match["before"] or match["after"])
