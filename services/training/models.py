"""Rows of schema `training`. Where the work stands is the job's state, never a column here."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, ForeignKey, Index, MetaData, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NOW = text("now()")


class Base(DeclarativeBase):
    metadata = MetaData(schema="training")
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's spelling
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[dict[str, Any]]: JSONB(none_as_null=True),
        list[str]: ARRAY(String),
        str: String,
    }


class Experiment(Base):
    """What was asked, the arms it means, and (once the data is there) how they are trained."""

    __tablename__ = "experiments"
    __table_args__ = (Index("experiments_of_project", "project", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project: Mapped[UUID]
    owner: Mapped[UUID]
    job: Mapped[UUID]
    plan: Mapped[UUID]
    name: Mapped[str]
    request: Mapped[dict[str, Any]]
    arms: Mapped[list[dict[str, Any]]]
    blueprint: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Run(Base):
    """One arm with one seed: how far its training is, and what it has left behind.

    `checkpoints` (newest first) and `predictions` list stored objects by key and digest; `curve`
    holds its validations so far. `problem` says why it failed for good; the others go on.
    `inputs_digest` is over all that determines it: where a finished run has the same, its
    classifier is copied (`reused`).
    """

    __tablename__ = "runs"

    experiment: Mapped[UUID] = mapped_column(ForeignKey(Experiment.id), primary_key=True)
    arm: Mapped[str] = mapped_column(primary_key=True)
    seed: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    steps: Mapped[int]
    step: Mapped[int] = mapped_column(server_default="0")
    best_step: Mapped[int | None]
    validation_auroc: Mapped[float | None]
    checkpoints: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'::jsonb"))
    classifier: Mapped[UUID | None]
    predictions: Mapped[list[dict[str, Any]] | None]
    inputs_digest: Mapped[str | None] = mapped_column(index=True)
    reused: Mapped[bool] = mapped_column(server_default=text("false"))
    problem: Mapped[dict[str, Any] | None]
    curve: Mapped[list[dict[str, Any]]] = mapped_column(server_default=text("'[]'::jsonb"))
    finished_at: Mapped[datetime | None]


class Classifier(Base):
    """The weights of one finished run; `files` are its stored objects."""

    __tablename__ = "classifiers"
    __table_args__ = (Index("classifiers_of_experiment", "experiment"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project: Mapped[UUID]
    owner: Mapped[UUID]
    experiment: Mapped[UUID] = mapped_column(ForeignKey(Experiment.id))
    arm: Mapped[str]
    seed: Mapped[int] = mapped_column(BigInteger)
    labels: Mapped[list[str]]
    size_px: Mapped[int]
    best_step: Mapped[int]
    validation_auroc: Mapped[float | None]
    digest: Mapped[str]
    files: Mapped[list[dict[str, Any]]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class OnnxModel(Base):
    """A classifier as ONNX: the job that makes it, and the stored object once it is made."""

    __tablename__ = "onnx_models"

    classifier: Mapped[UUID] = mapped_column(ForeignKey(Classifier.id), primary_key=True)
    job: Mapped[UUID]
    file: Mapped[dict[str, Any] | None]


class Calibration(Base):
    """How fast classifiers of one configuration train on one device.

    Measured by a job of its own (`job`; null numbers until that is done), or by a real run. `key`
    is the configuration's digest. Speed is nobody's secret: it serves every project.
    """

    __tablename__ = "calibrations"
    __table_args__ = (Index("calibrations_of_key", "key", "measured_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project: Mapped[UUID]
    key: Mapped[str]
    configuration: Mapped[dict[str, Any]]
    job: Mapped[UUID | None]
    device: Mapped[str | None]
    setup_s: Mapped[float | None]
    step_s: Mapped[float | None]
    image_s: Mapped[float | None]
    measured_at: Mapped[datetime | None]


class Scoring(Base):
    """Data scored by a classifier. `manifest`, `images` and `leakage` are known once the data was
    looked at; `predictions` is the stored object, `evaluation` what became of it.
    """

    __tablename__ = "scorings"
    __table_args__ = (Index("scorings_of_project", "project", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project: Mapped[UUID]
    owner: Mapped[UUID]
    job: Mapped[UUID]
    name: Mapped[str]
    classifier: Mapped[UUID]
    labels: Mapped[list[str]]
    request: Mapped[dict[str, Any]]
    manifest: Mapped[str | None]
    images: Mapped[int | None]
    leakage: Mapped[list[str] | None]
    predictions: Mapped[dict[str, Any] | None]
    evaluation: Mapped[UUID | None]
    not_evaluated: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)
