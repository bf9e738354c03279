"""Withdrawal of patients on the wire."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from api_schemas.base import JobView, Wire

PATIENT_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}:[0-9a-f]{32}$"
SAMPLE_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}-[0-9a-f]{32}$"
"""How the pseudonyms of manifests are written: a site, and 32 hexadecimal digits."""
Patient = Annotated[str, StringConstraints(pattern=PATIENT_ID)]
SampleId = Annotated[str, StringConstraints(pattern=SAMPLE_ID)]


class WithdrawalRequest(Wire):
    """Whom to take out of every dataset of the project (with `everywhere`: of all projects), and
    keep out of later imports.

    `patients` are pseudonyms as manifests show them (`patient_id`): all their images go.
    `samples` are sample ids: only these images go. What is no pseudonym, such as a hospital's
    own id, is refused and not stored.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"patients": ["chexpert:0123456789abcdef0123456789abcdef"], "note": "by letter"}
            ]
        }
    )

    patients: list[Patient] = Field(default=[], max_length=10_000)
    samples: list[SampleId] = Field(default=[], max_length=10_000)
    note: str = Field(default="", max_length=500, description="never a name or an identifier")
    everywhere: bool = Field(
        default=False,
        description="out of the datasets of all projects of the installation; for its "
        "administrators",
    )

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if not self.patients and not self.samples:
            msg = "give patients (pseudonyms), samples (sample ids), or both"
            raise ValueError(msg)
        return self


class Withdrawn(Wire):
    """What a withdrawal did to one dataset: a new manifest, by so many images smaller."""

    dataset: UUID
    manifest_before: UUID
    manifest_after: UUID
    images: int
    patients: int


class WithdrawalView(Wire):
    """A withdrawal in counts; it names nobody. `datasets` are the project's own."""

    id: UUID
    patients: int
    samples: int
    everywhere: bool
    found: int = Field(
        description="of those patients and samples, how many a dataset of the project (with "
        "`everywhere`: of any project) held when the withdrawal was ordered; 0 means that nobody "
        "was there to withdraw"
    )
    elsewhere: int = Field(
        description="imports of other projects that held any of them then; they keep them unless "
        "the withdrawal is `everywhere`"
    )
    note: str
    created_at: datetime
    job: JobView
    datasets: list[Withdrawn] = []
