"""Rows of schema `generation`. The state of a row's work is its job's, never its own."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKey, Index, MetaData, false, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NOW = text("now()")


class Base(DeclarativeBase):
    metadata = MetaData(schema="generation")
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's spelling
        dict[str, Any]: JSONB(none_as_null=True),
        datetime: DateTime(timezone=True),
    }


class Generator(Base):
    """What the request fixed; then what the training saw; then the weights.

    An imported one has an `origin`, and no preset, steps, seed and dataset of its own; what it saw
    is known once its owner has named a dataset.
    """

    __tablename__ = "generators"
    __table_args__ = (Index("generators_of_project", "project", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project: Mapped[UUID]
    owner: Mapped[UUID]
    job: Mapped[UUID]
    name: Mapped[str]
    dataset: Mapped[UUID | None]
    preset: Mapped[str | None]
    steps: Mapped[int | None]
    seed: Mapped[int | None] = mapped_column(BigInteger)
    size_px: Mapped[int | None]
    encoder: Mapped[str | None]
    settings: Mapped[dict[str, Any] | None]
    preview_every: Mapped[int | None]
    imported: Mapped[bool]
    origin: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    manifest: Mapped[UUID | None]
    manifest_digest: Mapped[str | None]
    images: Mapped[int | None]
    patients: Mapped[int | None]
    site: Mapped[str | None]
    terms: Mapped[str | None]
    licence: Mapped[dict[str, Any] | None]
    phantom: Mapped[bool | None]
    population_key: Mapped[str | None]
    population_sha256: Mapped[str | None]

    weights_key: Mapped[str | None]
    weights_sha256: Mapped[str | None]


class Checkpoint(Base):
    """A state to resume from: `files` maps a file's name to its key and SHA-256."""

    __tablename__ = "checkpoints"

    generator: Mapped[UUID] = mapped_column(ForeignKey(Generator.id), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    files: Mapped[dict[str, Any]]


class Loss(Base):
    """One point of the loss curve: the mean since the point before."""

    __tablename__ = "losses"

    generator: Mapped[UUID] = mapped_column(ForeignKey(Generator.id), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    loss: Mapped[float]


class Preview(Base):
    """A contact sheet of what a training had learnt at a step."""

    __tablename__ = "previews"

    generator: Mapped[UUID] = mapped_column(ForeignKey(Generator.id), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    image_key: Mapped[str]
    image_sha256: Mapped[str]


class Generation(Base):
    """An order of synthetic patients; `images` is 0 until a mirrored dataset has been counted."""

    __tablename__ = "generations"
    __table_args__ = (Index("generations_of_project", "project", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project: Mapped[UUID]
    owner: Mapped[UUID]
    job: Mapped[UUID]
    name: Mapped[str]
    generator: Mapped[UUID] = mapped_column(ForeignKey(Generator.id))
    request: Mapped[dict[str, Any]]
    batch: Mapped[int]
    images: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)

    nearest_images: Mapped[int | None]
    mirror_manifest: Mapped[UUID | None]
    mirror_licence: Mapped[dict[str, Any] | None]
    environment: Mapped[dict[str, Any] | None]
    manifest: Mapped[UUID | None]
    manifest_digest: Mapped[str | None]
    manifest_key: Mapped[str | None]
    manifest_sha256: Mapped[str | None]

    screening: Mapped[dict[str, Any] | None]
    screening_job: Mapped[UUID | None]


class Image(Base):
    """One synthetic patient: planned with condition and seed, rendered once it has a key.

    `nearest_match` says what the generator's training set does not match of the order, where it
    does not: an `api_schemas` NearestMatch. `nearest` is the sample of that set that the image is
    most similar to, once screened; a `flagged` one is withheld from the manifest.
    """

    __tablename__ = "images"

    generation: Mapped[UUID] = mapped_column(ForeignKey(Generation.id), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    condition: Mapped[dict[str, Any]]
    seed: Mapped[int] = mapped_column(BigInteger)
    replica: Mapped[int]
    parent_sample_id: Mapped[str | None]
    nearest_match: Mapped[dict[str, Any] | None]
    environment: Mapped[dict[str, Any] | None]
    image_key: Mapped[str | None]
    image_sha256: Mapped[str | None]
    pixel_sha256: Mapped[str | None]

    likeness: Mapped[float | None]
    nearest: Mapped[str | None]
    flagged: Mapped[bool] = mapped_column(server_default=false())


class Calibrated(Base):
    """How like to a training image is too like, of a generator: an `api_schemas` Calibration."""

    __tablename__ = "calibrations"

    generator: Mapped[UUID] = mapped_column(ForeignKey(Generator.id), primary_key=True)
    calibration: Mapped[dict[str, Any]]
