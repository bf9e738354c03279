"""Which sample an image of one's own is, on the wire."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from api_schemas.base import Wire

OwnPath = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
OwnRow = Annotated[int, Field(ge=1, lt=2**31)]
LOOKUPS = 10_000


class LookupRequest(Wire):
    """Images of one's own, by their files or by the rows of the table that was imported.

    `paths` are written as the table of the import writes them, or from a folder that may be
    imported from on; they are hashed with the installation's key and stored nowhere. `rows` are
    lines of the table as `/rejections` counts them: the header is line 1.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"paths": ["train/patient00001/study1/view1_frontal.jpg"]},
                {"rows": [2, 3, 4]},
            ]
        }
    )

    paths: list[OwnPath] | None = Field(default=None, min_length=1, max_length=LOOKUPS)
    rows: list[OwnRow] | None = Field(default=None, min_length=1, max_length=LOOKUPS)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.paths is None) == (self.rows is None):
            msg = "paths: give paths or rows, and not both"
            raise ValueError(msg)
        return self


class LookupView(Wire):
    """`samples` in the order of the request, null where the dataset has no such image."""

    samples: list[str | None]
    missing: int = Field(description="how many of them are null")
