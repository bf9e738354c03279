"""What two sets of images share, on the wire."""

from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from api_schemas.base import DataSplit, Digest, JobView, Wire
from api_schemas.shifts import Apart


class OverlapRequest(Wire):
    """Which patients and pictures two sets share.

    `near` also looks for near-identical pictures (re-encoded, resized, of other contrast, shifted
    a little, mirrored), which reads every image. `trivial` finds how well trivial features of the
    images tell the sets apart, which `GET /shifts` shows too.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "first": {
                        "data": {"dataset": "019a0000-0000-7000-8000-000000000001"},
                        "split": "train",
                    },
                    "second": {
                        "data": {"dataset": "019a0000-0000-7000-8000-000000000002"},
                        "split": "test",
                    },
                    "near": True,
                }
            ]
        }
    )

    first: DataSplit
    second: DataSplit
    near: bool = False
    trivial: bool = False

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.first == self.second:
            msg = "second: another set than first; name splits to compare parts of one dataset"
            raise ValueError(msg)
        return self


class SharedPair(Wire):
    """Two samples, one of each set, and how alike their pictures are (1: pixel for pixel)."""

    first: str
    second: str
    kind: Literal["pixels", "near"]
    likeness: float
    same_patient: bool


class NearCopies(Wire):
    """Pictures of the first set with a near-identical one in the second.

    `chance` is the share of the first set's images (`chance_of` were looked at) that are as like
    to one of *another* patient of the same set: what this finds where nothing was copied.
    """

    found: int
    threshold: float
    chance: float
    chance_of: int


class Overlap(Wire):
    """`shared_*` count what is in both sets. `pairs` are examples, at most 1,000. `apart` is null
    unless it was asked for, or where a set has fewer than two patients.
    """

    manifests: tuple[Digest, Digest]
    images: tuple[int, int]
    patients: tuple[int, int]
    shared_patients: int
    shared_pictures: int = Field(description="distinct pictures, pixel for pixel")
    near: NearCopies | None = None
    apart: Apart | None = None
    pairs: list[SharedPair] = []


class OverlapView(Wire):
    id: UUID
    request: OverlapRequest
    created_at: datetime
    job: JobView
    result: Overlap | None = None
