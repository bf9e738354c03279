"""Work on the wire: attempts, the queue as everyone may see it, shares."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from api_schemas.base import Wire

Priority = Annotated[int, Field(ge=-10, le=10)]


class AttemptView(Wire):
    """One lease of a part of a job: who held it, on what, and how and why it ended."""

    slice: int = Field(description="which part of the job, counted from 0")
    number: int = Field(description="which attempt at this part, counted from 1")
    worker: str
    about: dict[str, str] = Field(description="device, driver and versions")
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Literal["done", "released", "crashed", "lost", "failed", "cancelled"] | None = None
    reason: str = ""


class PriorityRequest(Wire):
    """Below 0: after everybody else's work. Above 0: before it, for the installation's
    administrators.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"priority": -5}]})

    priority: Priority


class QueuePlace(Wire):
    """One job in a queue. What others run stays theirs: `job` and `kind` are null then."""

    place: int = Field(description="1 is served next")
    yours: bool
    job: UUID | None = None
    kind: str | None = None
    state: Literal["blocked", "queued", "running"] = Field(
        description="queued, too, while a job that has begun is set aside for others"
    )
    running: int = Field(description="parts that are being worked on")
    waiting: int = Field(description="parts that are queued")
    starts_in_s: float | None = Field(description="until its next part begins; null: nobody knows")
    ends_in_s: float | None = Field(description="until its last part ends; null: nobody knows")


class QueueView(Wire):
    """A queue in the order in which it is served."""

    queue: str
    workers: int = Field(description="workers that are up")
    places: list[QueuePlace]


class ShareRequest(Wire):
    """What a person gets when work queues up; a cap that is null is the installation's."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"weight": 2.0, "running_cap": 8, "queued_cap": None}]}
    )

    weight: float = Field(default=1.0, gt=0, le=100, description="relative to everybody's 1")
    running_cap: int | None = Field(default=None, ge=1, le=1000)
    queued_cap: int | None = Field(default=None, ge=0, le=1_000_000)


class ShareView(ShareRequest):
    person: UUID
    used_s: dict[str, float] = Field(description="decayed seconds used, by queue")
