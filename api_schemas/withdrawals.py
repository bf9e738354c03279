"""Withdrawal of patients on the wire."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from api_schemas.base import JobView, Wire

Pseudonym = Annotated[str, StringConstraints(min_length=1, max_length=120)]


class WithdrawalRequest(Wire):
    """Whom to take out of every dataset of the project, and keep out of later imports.

    `patients` are pseudonyms as manifests show them (`patient_id`): all their images go.
    `samples` are sample ids: only these images go.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"patients": ["chexpert:0123456789abcdef0123456789abcdef"], "note": "by letter"}
            ]
        }
    )

    patients: list[Pseudonym] = Field(default=[], max_length=10_000)
    samples: list[Pseudonym] = Field(default=[], max_length=10_000)
    note: str = Field(default="", max_length=500, description="never a name or an identifier")

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
    id: UUID
    patients: int
    samples: int
    note: str
    created_at: datetime
    job: JobView
    datasets: list[Withdrawn] = []
