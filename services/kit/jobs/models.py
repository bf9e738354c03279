"""The tables of schema `jobs`. Nobody outside this package reads or writes them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    String,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NOW = text("now()")

JOB_STATES = ("blocked", "queued", "running", "succeeded", "failed", "cancelled", "quarantined")
SLICE_STATES = ("queued", "running", "done", "failed", "quarantined", "cancelled")
OUTCOMES = ("done", "released", "crashed", "lost", "failed", "cancelled")
OPEN = "state IN ('queued', 'running')"


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(v) for v in values)})"


class Base(DeclarativeBase):
    metadata = MetaData(schema="jobs")
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's spelling
        dict[str, Any]: JSONB(none_as_null=True),
        datetime: DateTime(timezone=True),
        str: String,
    }


class Job(Base):
    """`short` jobs are expected to take less than a minute; `seconds` is how long the slices of a
    job have run.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(_one_of("state", JOB_STATES), name="job_state"),
        Index(
            "jobs_active",
            *("queue", "owner", text("priority DESC"), text("short DESC"), "created_at", "id"),
            postgresql_where=text("finished_at IS NULL"),
        ),
        Index(
            "jobs_succeeded",
            *("kind", text("finished_at DESC")),
            postgresql_where=text("state = 'succeeded'"),
        ),
        Index("jobs_of_resource", "resource"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    service: Mapped[str]
    kind: Mapped[str]
    queue: Mapped[str]
    owner: Mapped[UUID]
    project: Mapped[UUID]
    resource: Mapped[UUID]
    inputs: Mapped[dict[str, Any]]
    state: Mapped[str]
    priority: Mapped[int] = mapped_column(server_default="0")
    short: Mapped[bool] = mapped_column(server_default=text("false"))
    seconds: Mapped[float] = mapped_column(server_default="0")
    done: Mapped[float] = mapped_column(server_default="0")
    total: Mapped[float] = mapped_column(server_default="0")
    unit: Mapped[str] = mapped_column(server_default="")
    message: Mapped[str] = mapped_column(server_default="")
    problem: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Wait(Base):
    """`job` is blocked until `awaited` has succeeded."""

    __tablename__ = "waits"
    __table_args__ = (Index("waits_awaited", "awaited"),)

    job: Mapped[UUID] = mapped_column(ForeignKey(Job.id), primary_key=True)
    awaited: Mapped[UUID] = mapped_column(ForeignKey(Job.id), primary_key=True)


class Resource(Base):
    """What a service keeps under an id. `deletion` is the job that takes it away: from then on
    it is gone for readers. The row stays, and tells that there was such a thing. `damaged_at` is
    when an object of it was found missing, or not what was put there.
    """

    __tablename__ = "resources"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project: Mapped[UUID]
    service: Mapped[str]
    queue: Mapped[str]
    kind: Mapped[str]
    name: Mapped[str]
    deletion: Mapped[UUID | None] = mapped_column(ForeignKey(Job.id))
    damaged_at: Mapped[datetime | None]


class Use(Base):
    """`resource` was made from `uses`, which may be nobody's: a plan names any experiment."""

    __tablename__ = "uses"
    __table_args__ = (Index("uses_of", "uses"),)

    resource: Mapped[UUID] = mapped_column(ForeignKey(Resource.id), primary_key=True)
    uses: Mapped[UUID] = mapped_column(primary_key=True)


class Installation(Base):
    """The one row that says which installation this database is; the object store says it too.

    `rounds` counts the collector's rounds in both, so that a restored backup of either is
    noticed. `mismatch` says in words why they do not belong together, when they do not.
    """

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("one", name="one_installation"),)

    one: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    id: Mapped[UUID] = mapped_column(server_default=text("gen_random_uuid()"))
    rounds: Mapped[int] = mapped_column(BigInteger, server_default="0")
    paired_at: Mapped[datetime | None]
    mismatch: Mapped[str] = mapped_column(server_default="")


class Cancellation(Base):
    """A job whose cancellation was asked for while somebody wrote to it: it is cancelled when the
    lock is free. No foreign key, which would wait for that lock.
    """

    __tablename__ = "cancellations"

    job: Mapped[UUID] = mapped_column(primary_key=True)
    requested_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Slice(Base):
    """What a worker leases. `beats` moves while its holder lives: the sweeper watches it."""

    __tablename__ = "slices"
    __table_args__ = (
        CheckConstraint(_one_of("state", SLICE_STATES), name="slice_state"),
        CheckConstraint("(state = 'running') = (lease IS NOT NULL)", name="a_lease_means_running"),
        Index("slices_open", "job", "ordinal", postgresql_where=text(OPEN)),
        Index("slices_running", "job", postgresql_where=text("state = 'running'")),
        Index("slices_of_job", "job", "ordinal", unique=True),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    job: Mapped[UUID] = mapped_column(ForeignKey(Job.id))
    ordinal: Mapped[int]
    state: Mapped[str] = mapped_column(server_default="queued")
    payload: Mapped[dict[str, Any]]
    lease: Mapped[UUID | None]
    beats: Mapped[int] = mapped_column(server_default="0")
    attempts: Mapped[int] = mapped_column(server_default="0")
    crashes: Mapped[int] = mapped_column(server_default="0")
    not_before: Mapped[datetime] = mapped_column(server_default=NOW)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Attempt(Base):
    """One lease of a slice: who held it, on what, and how and why it ended."""

    __tablename__ = "attempts"
    __table_args__ = (
        CheckConstraint(_one_of("outcome", OUTCOMES), name="attempt_outcome"),
        Index("attempts_of_job", "job", "started_at"),
        Index("attempts_by_time", "started_at"),
    )

    slice: Mapped[int] = mapped_column(ForeignKey(Slice.id), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    job: Mapped[UUID] = mapped_column(ForeignKey(Job.id))
    worker: Mapped[str]
    about: Mapped[dict[str, Any]]
    started_at: Mapped[datetime] = mapped_column(server_default=NOW)
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    reason: Mapped[str] = mapped_column(server_default="")


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (Index("events_of_job", "job", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    job: Mapped[UUID] = mapped_column(ForeignKey(Job.id))
    at: Mapped[datetime] = mapped_column(server_default=NOW)
    kind: Mapped[str]
    state: Mapped[str]
    done: Mapped[float]
    total: Mapped[float]
    unit: Mapped[str]
    message: Mapped[str]


class Usage(Base):
    """Seconds an owner's slices ran on a queue, as of a moment; they decay from then on.

    `short_seconds` are those of short jobs, which decay by half in ten minutes.
    """

    __tablename__ = "usage"

    owner: Mapped[UUID] = mapped_column(primary_key=True)
    queue: Mapped[str] = mapped_column(primary_key=True)
    seconds: Mapped[float] = mapped_column(server_default="0")
    short_seconds: Mapped[float] = mapped_column(server_default="0")
    as_of: Mapped[datetime] = mapped_column(server_default=NOW)


class WorkerSeen(Base):
    """A worker that is up: it says so every few seconds. `process` names its process on its host,
    where the host tells.
    """

    __tablename__ = "workers"

    worker: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str]
    device: Mapped[str] = mapped_column(server_default="")
    process: Mapped[str] = mapped_column(server_default="")
    seen_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Share(Base):
    """What an administrator grants a person: weight of the fair share, and caps of their own."""

    __tablename__ = "shares"
    __table_args__ = (CheckConstraint("weight > 0", name="a_weight_is_positive"),)

    owner: Mapped[UUID] = mapped_column(primary_key=True)
    weight: Mapped[float] = mapped_column(server_default="1")
    running_cap: Mapped[int | None]
    queued_cap: Mapped[int | None]


class IdempotencyKey(Base):
    """Which resource a key of a person made, and with which body."""

    __tablename__ = "idempotency_keys"

    project: Mapped[UUID] = mapped_column(primary_key=True)
    person: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_digest: Mapped[str]
    resource: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
