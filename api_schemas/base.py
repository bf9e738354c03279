"""What all wire models share, and the small types that many of them use."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)


class Wire(BaseModel):
    """A frozen value on the wire; a field that is not declared is an error, not a surprise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

T = TypeVar("T")


class Page(Wire, Generic[T]):
    """One page of a list; pass `next` as `cursor` to get the one after, `null` at the end."""

    items: list[T]
    next: str | None = None


class Problem(BaseModel):
    """An error as application/problem+json (RFC 9457).

    `type` is stable and meant for programs; `field` names the offending input as a path
    (`conditions.0.findings`), `accepted` says what would have been taken.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    title: str
    status: int
    detail: str | None = None
    field: str | None = None
    accepted: JsonValue = None


class JobState(StrEnum):
    """Where a job stands; the last four are terminal (`quarantined` can be retried)."""

    BLOCKED = "blocked"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    QUARANTINED = "quarantined"

    @property
    def terminal(self) -> bool:
        return self in {
            JobState.SUCCEEDED,
            JobState.FAILED,
            JobState.CANCELLED,
            JobState.QUARANTINED,
        }


class JobView(Wire):
    """What a person sees of a piece of long work. `done` of `total` counts in `unit`.

    `message` says how it goes, or why it waits. A job that has begun and is set aside for others is
    `queued` meanwhile.
    """

    id: UUID
    kind: str
    state: JobState
    done: float = 0
    total: float = 0
    unit: str = ""
    message: str = ""
    cancelling: bool = Field(
        default=False,
        description="a cancellation was asked for; it comes when the step that is being written "
        "is done, or never where that was the last one",
    )
    priority: int = 0
    waits_for: list[UUID] = []
    problem: Problem | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    damaged: bool = Field(default=False, exclude=True)
    """Of what the job is about; the resource says it on the wire."""


class Damageable(Wire):
    """A resource that is made of objects, one of which may be missing or altered."""

    damaged: bool = Field(
        default=False, description="an object of it is missing, or is not what was stored"
    )

    @model_validator(mode="before")
    @classmethod
    def _as_the_job_knows(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(job := values.get("job"), JobView):
            return {"damaged": job.damaged, **values}
        return values


class JobEvent(Wire):
    """One line of a job's event stream (`GET .../events`, Server-Sent Events)."""

    id: int
    job: UUID
    at: datetime
    kind: Literal["state", "progress", "note"]
    state: JobState
    done: float = 0
    total: float = 0
    unit: str = ""
    message: str = ""


class ResourceView(Wire):
    """Something that a service keeps. `state`, `done` and `unit` are those of the job that makes
    it: `830 images` is how many it has, and null the state of what no job made.
    """

    service: str
    kind: str
    id: UUID
    name: str
    state: JobState | None
    done: float
    unit: str


class DeletionView(Wire):
    """What deleting a resource takes: itself and, `derived`, everything made from it that is
    still there. `job` is the deletion, once it is asked for.
    """

    resource: ResourceView
    derived: list[ResourceView]
    job: JobView | None = None


class DatasetRef(Wire):
    """A registered dataset as a source of images."""

    dataset: UUID


class GenerationRef(Wire):
    """A finished generation (a cohort) as a source of images."""

    generation: UUID


DataRef = DatasetRef | GenerationRef
"""A typed reference to data; it is resolved with the service that made the data."""

Split = Literal["train", "validation", "test"]
EvaluationSplit = Literal["train", "validation", "test", "all"]
"""Which rows of a dataset are evaluated; `all` is for sites that nothing was trained on."""


class DataSplit(Wire):
    """A split of a dataset or cohort, or all of it."""

    data: DataRef
    split: EvaluationSplit = "all"
