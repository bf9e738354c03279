"""Rows of schema `datasets`."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    ForeignKey,
    Index,
    MetaData,
    SmallInteger,
    String,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NOW = text("now()")


class Base(DeclarativeBase):
    metadata = MetaData(schema="datasets")
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's spelling
        dict[str, Any]: JSONB(none_as_null=True),
        list[str]: JSONB,
        list[dict[str, Any]]: JSONB,
        datetime: DateTime(timezone=True),
        str: String,
    }


class Dataset(Base):
    """What was asked for. Where it stands is its job's matter; what it became, its manifest's.

    A view has a `base`, the dataset it was made of, and a `root`, the import at the end of that
    chain, which owns the images; `joined` are further imports that own images of it. `licence` is
    set when somebody states it after the import; `origins` when image files say that they are
    synthetic or drawn.
    """

    __tablename__ = "datasets"
    __table_args__ = (Index("datasets_of_project", "project", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project: Mapped[UUID]
    owner: Mapped[UUID]
    job: Mapped[UUID]
    name: Mapped[str]
    request: Mapped[dict[str, Any]]
    notes: Mapped[list[str]] = mapped_column(server_default="[]")
    warnings: Mapped[list[str]] = mapped_column(server_default="[]")
    base: Mapped[UUID | None] = mapped_column(
        ForeignKey("datasets.datasets.id", ondelete="CASCADE"), index=True
    )
    root: Mapped[UUID | None] = mapped_column(
        ForeignKey("datasets.datasets.id", ondelete="CASCADE"), index=True
    )
    joined: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid), server_default="{}")
    licence: Mapped[dict[str, Any] | None]
    origins: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Sample(Base):
    """One image. Planned from the source's row; the picture's columns come with the picture.

    `place`, `bucket`, `picture_notes` and `origin` serve the ingest and are emptied at its end: a
    path can name a patient, the notes have been counted, and what images say of their making is
    then in the manifest and in the dataset's `origins`.
    """

    __tablename__ = "samples"
    __table_args__ = (
        Index("samples_by_name", "dataset", "sample_id", unique=True),
        Index("samples_by_patient", "patient_id"),
    )

    dataset: Mapped[UUID] = mapped_column(
        ForeignKey(Dataset.id, ondelete="CASCADE"), primary_key=True
    )
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    line: Mapped[int]
    place: Mapped[str | None]
    bucket: Mapped[int | None] = mapped_column(SmallInteger)
    sample_id: Mapped[str]
    patient_id: Mapped[str]
    split: Mapped[str | None]
    fold: Mapped[int | None] = mapped_column(SmallInteger)
    age: Mapped[int | None] = mapped_column(SmallInteger)
    sex: Mapped[str | None]
    race: Mapped[str | None]
    ethnicity: Mapped[str | None]
    view: Mapped[str | None]
    labels: Mapped[dict[str, Any]]
    image_key: Mapped[str | None]
    image_sha256: Mapped[str | None]
    pixel_sha256: Mapped[str | None]
    descriptor: Mapped[bytes | None]
    picture_notes: Mapped[list[str]] = mapped_column(server_default="[]")
    seed: Mapped[int | None] = mapped_column(BigInteger)
    replica: Mapped[int | None]
    parent_sample_id: Mapped[str | None]
    origin: Mapped[dict[str, Any] | None]


class Duplicate(Base):
    """Two samples whose pictures are the same, or nearly: `distance` in bits of descriptors."""

    __tablename__ = "duplicates"

    dataset: Mapped[UUID] = mapped_column(
        ForeignKey(Dataset.id, ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sample_id: Mapped[str]
    other_sample_id: Mapped[str]
    identical: Mapped[bool]
    distance: Mapped[int] = mapped_column(SmallInteger)
    same_patient: Mapped[bool]


class Upload(Base):
    """An archive that somebody sent, until a dataset was imported from it."""

    __tablename__ = "uploads"
    __table_args__ = (Index("uploads_of_project", "project", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project: Mapped[UUID]
    owner: Mapped[UUID]
    key: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Rejection(Base):
    """A row of the source that could not be used."""

    __tablename__ = "rejections"

    dataset: Mapped[UUID] = mapped_column(
        ForeignKey(Dataset.id, ondelete="CASCADE"), primary_key=True
    )
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    code: Mapped[str] = mapped_column(server_default="row")
    reason: Mapped[str]


class Manifest(Base):
    """One immutable version of a dataset; the newest counts.

    `digest` is over content, `parquet_sha256` over the stored bytes.
    """

    __tablename__ = "manifests"
    __table_args__ = (Index("manifests_of_dataset", "dataset", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dataset: Mapped[UUID] = mapped_column(ForeignKey(Dataset.id, ondelete="CASCADE"))
    digest: Mapped[str]
    parquet_sha256: Mapped[str]
    images: Mapped[int]
    patients: Mapped[int]
    key: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class WithdrawnPicture(Base):
    """The pixels of a picture that was withdrawn: whatever file brings them again is refused."""

    __tablename__ = "withdrawn_pictures"

    withdrawal: Mapped[UUID] = mapped_column(
        ForeignKey("datasets.withdrawals.id", ondelete="CASCADE"), primary_key=True
    )
    pixel_sha256: Mapped[str] = mapped_column(primary_key=True)


class Withdrawal(Base):
    """Who was taken out of a project's datasets, by pseudonym, so that no import brings them back.

    `everywhere`: out of those of all projects. `found` counts those of `patients` and `samples`
    that a dataset of the project (or of all) held at the time, `elsewhere` the datasets of other
    projects that held any; `outcome` lists what it did to each dataset of the project.
    """

    __tablename__ = "withdrawals"
    __table_args__ = (Index("withdrawals_of_project", "project", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project: Mapped[UUID]
    owner: Mapped[UUID]
    job: Mapped[UUID]
    patients: Mapped[list[str]]
    samples: Mapped[list[str]]
    note: Mapped[str]
    everywhere: Mapped[bool] = mapped_column(server_default=text("false"))
    found: Mapped[int] = mapped_column(server_default="0")
    elsewhere: Mapped[int] = mapped_column(server_default="0")
    outcome: Mapped[list[dict[str, Any]]] = mapped_column(server_default="[]")
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
