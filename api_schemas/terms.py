"""What data may be used for, and how that is inherited."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, HttpUrl

from api_schemas.base import Wire

WITHDRAWN = "withdrawn-patients"
"""Flag: a patient was withdrawn from the data since this was made of it."""
UNCHECKED = "unchecked"
"""Flag: the service that knows of withdrawals did not answer."""


def _short_as_kept(url: HttpUrl) -> HttpUrl:
    if len(str(url)) > ADDRESS_LIMIT:
        msg = (
            f"at most {ADDRESS_LIMIT} characters as it is kept, where a letter outside ASCII takes"
            " six or more"
        )
        raise ValueError(msg)
    return url


ADDRESS_LIMIT = 2000
Address = Annotated[HttpUrl, AfterValidator(_short_as_kept)]
"""Kept in its percent-encoded form, which must be one that is taken again."""


class Licence(Wire):
    """The terms of a dataset. A permission is `true`, `false`, or `null` when nobody has said.

    `may_export`: its images may leave the suite. `may_share_derived`: so may what was made of
    them (generators, synthetic images, classifiers).
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Stanford University Dataset Research Use Agreement",
                    "url": "https://stanfordaimi.azurewebsites.net/",
                    "may_export": False,
                    "may_share_derived": None,
                    "notes": "Research use; no redistribution.",
                }
            ]
        }
    )

    name: str = Field(default="", max_length=200)
    url: Address | None = None
    may_export: bool | None = None
    may_share_derived: bool | None = None
    notes: str = Field(default="", max_length=2000)


UNSTATED = Licence()
"""Nobody has said anything."""
FREE = Licence(
    name="No restriction",
    may_export=True,
    may_share_derived=True,
    notes="Drawn phantoms: no patient, no radiograph.",
)


def strictest(licences: Iterable[Licence]) -> Licence:
    """The terms of what is made of several: forbidden if one forbids, unknown if one is silent."""
    distinct = list(dict.fromkeys(licences))
    if len(distinct) == 1:
        return distinct[0]
    return Licence(
        name=_joined(each.name for each in distinct)[:200],
        may_export=_least(each.may_export for each in distinct),
        may_share_derived=_least(each.may_share_derived for each in distinct),
        notes=_joined(each.notes for each in distinct)[:2000],
    )


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _least(permissions: Iterable[bool | None]) -> bool | None:
    given = list(permissions)
    if False in given:
        return False
    return True if given and None not in given else None
