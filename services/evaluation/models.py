"""Rows of schema `evaluation`. What was computed is never changed."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NOW = text("now()")


class Base(DeclarativeBase):
    metadata = MetaData(schema="evaluation")
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's spelling
        dict[str, Any]: JSONB(none_as_null=True),
        list[str]: ARRAY(String),
        datetime: DateTime(timezone=True),
        int: BigInteger,
        str: String,
    }


class Plan(Base):
    """A registered analysis; `content` is the `PlanPost`, `digest` over it. Only a service may tell
    of the runs of a plan that is `by_service`.
    """

    __tablename__ = "plans"
    __table_args__ = (UniqueConstraint("project", "experiment"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project: Mapped[UUID]
    owner: Mapped[UUID]
    experiment: Mapped[UUID]
    content: Mapped[dict[str, Any]]
    digest: Mapped[str]
    by_service: Mapped[bool] = mapped_column(server_default="false")
    job: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Prediction(Base):
    """One set of predictions: an arm and seed of a plan on one of its test sets.

    `digest` is over the content, `sha256` over the stored bytes, `fingerprints` over what all
    sets of a test share.
    """

    __tablename__ = "predictions"
    __table_args__ = (UniqueConstraint("plan", "test", "arm", "seed"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    plan: Mapped[UUID] = mapped_column(ForeignKey(Plan.id))
    project: Mapped[UUID]
    owner: Mapped[UUID]
    test: Mapped[str]
    arm: Mapped[str]
    seed: Mapped[int]
    digest: Mapped[str]
    key: Mapped[str]
    sha256: Mapped[str]
    fingerprints: Mapped[dict[str, Any]]
    images: Mapped[int]
    patients: Mapped[int]
    steps: Mapped[int | None]
    best_step: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Absence(Base):
    """A run of a plan that failed for good: its predictions will never come."""

    __tablename__ = "absences"

    plan: Mapped[UUID] = mapped_column(ForeignKey(Plan.id), primary_key=True)
    arm: Mapped[str] = mapped_column(primary_key=True)
    seed: Mapped[int] = mapped_column(primary_key=True)
    reason: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Particulars(Base):
    """What became known of a plan's experiment once its data was there; `content` is the
    `ParticularsPost`.
    """

    __tablename__ = "particulars"

    plan: Mapped[UUID] = mapped_column(ForeignKey(Plan.id), primary_key=True)
    content: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Evaluation(Base):
    """One run of the analysis. A later version supersedes it and leaves it as it is.

    `shown` holds, by reference, the digest of the manifests whose images the report shows; once
    these are no longer the newest, a `Redaction` takes the report's place.
    """

    __tablename__ = "evaluations"
    __table_args__ = (UniqueConstraint("plan", "version"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    plan: Mapped[UUID] = mapped_column(ForeignKey(Plan.id))
    project: Mapped[UUID]
    experiment: Mapped[UUID]
    job: Mapped[UUID]
    version: Mapped[int]
    method: Mapped[str]
    versions: Mapped[dict[str, Any]]
    inputs_digest: Mapped[str]
    report_key: Mapped[str]
    report_sha256: Mapped[str]
    shown: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Redaction(Base):
    """The report of an evaluation without its images, which are gone from the store."""

    __tablename__ = "redactions"

    evaluation: Mapped[UUID] = mapped_column(ForeignKey(Evaluation.id), primary_key=True)
    report_key: Mapped[str]
    report_sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


def _within(column: str, low: int, high: int) -> CheckConstraint:
    """Also refuses NaN, which Postgres sorts above every number."""
    return CheckConstraint(f"{column} BETWEEN {low} AND {high}", name=f"{column}_range")


def _finite(column: str) -> CheckConstraint:
    """Of a number without bounds: NaN sorts above infinity."""
    return CheckConstraint(
        f"{column} > '-Infinity'::float8 AND {column} < 'Infinity'::float8", name=f"{column}_finite"
    )


class Found:
    """What every line of an answer has. Rows come in the plan's order by `id`."""

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    evaluation: Mapped[UUID] = mapped_column(ForeignKey(Evaluation.id))
    experiment: Mapped[UUID]
    test: Mapped[str]
    seeds: Mapped[int]
    difference: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    p: Mapped[float | None]
    p_holm: Mapped[float | None]
    dof: Mapped[float | None]
    flags: Mapped[list[str]]


class Measured(Found):
    """A quantity of an arm and what it rests on; `low` and `high` are the quantity's."""

    arm: Mapped[str]
    label: Mapped[str]
    group: Mapped[str | None]
    images: Mapped[int]
    positives: Mapped[int | None]
    patients: Mapped[int]
    reference: Mapped[str | None]
    difference_low: Mapped[float | None]
    difference_high: Mapped[float | None]


class Registered(Found):
    """The answer to a registered question; `low` and `high` are the difference's."""

    reference: Mapped[str]
    test_sd: Mapped[float | None]
    seed_sd: Mapped[float | None]
    verdict: Mapped[str]


class Result(Measured, Base):
    """A line of `/results`."""

    __tablename__ = "results"
    __table_args__ = (
        Index("results_of_evaluation", "evaluation", "id"),
        *(_within(c, 0, 1) for c in ("auroc", "low", "high", "p", "p_holm")),
        *(_within(c, -1, 1) for c in ("difference", "difference_low", "difference_high")),
    )

    auroc: Mapped[float | None]
    test_sd: Mapped[float | None]
    seed_sd: Mapped[float | None]


class Metric(Measured, Base):
    """A line of `/metrics`: what else than AUROC was measured."""

    __tablename__ = "metrics"
    __table_args__ = (
        Index("metrics_of_evaluation", "evaluation", "id"),
        *(_within(c, 0, 1) for c in ("p", "p_holm")),
        *(_finite(c) for c in ("value", "low", "high")),
        *(_finite(c) for c in ("difference", "difference_low", "difference_high")),
    )

    metric: Mapped[str]
    against: Mapped[str | None]
    value: Mapped[float | None]


class Comparison(Registered, Base):
    """The answer to the primary question on one test set."""

    __tablename__ = "comparisons"
    __table_args__ = (
        Index("comparisons_of_evaluation", "evaluation", "id"),
        *(_within(c, -1, 1) for c in ("difference", "low", "high")),
        *(_within(c, 0, 1) for c in ("p", "p_holm")),
    )

    primary: Mapped[str]
    margin: Mapped[float]
    averaged: Mapped[list[str]]
    left_out: Mapped[dict[str, Any]]


class Answer(Registered, Base):
    """The answer to a further registered question on one test set."""

    __tablename__ = "answers"
    __table_args__ = (
        Index("answers_of_evaluation", "evaluation", "id"),
        *(_within(c, -1, 1) for c in ("difference", "low", "high")),
        *(_within(c, 0, 1) for c in ("p", "p_holm")),
    )

    arm: Mapped[str]
    kind: Mapped[str]
    margin: Mapped[float | None]
    level: Mapped[float]


class Baseline(Base):
    """A line about what trivial features of a test set's images tell of a label."""

    __tablename__ = "baselines"
    __table_args__ = (
        Index("baselines_of_evaluation", "evaluation", "id"),
        *(_within(c, 0, 1) for c in ("auroc", "low", "high", "feature_auroc")),
        *(_within(c, 0, 1) for c in ("trained_auroc", "trained_low", "trained_high")),
    )

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    evaluation: Mapped[UUID] = mapped_column(ForeignKey(Evaluation.id))
    experiment: Mapped[UUID]
    test: Mapped[str]
    label: Mapped[str]
    images: Mapped[int]
    positives: Mapped[int]
    patients: Mapped[int]
    auroc: Mapped[float]
    low: Mapped[float | None]
    high: Mapped[float | None]
    trained_auroc: Mapped[float | None]
    trained_low: Mapped[float | None]
    trained_high: Mapped[float | None]
    feature: Mapped[str]
    feature_auroc: Mapped[float]


class Ordered:
    """What a person asked of data: a row whose job a worker does."""

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project: Mapped[UUID]
    owner: Mapped[UUID]
    job: Mapped[UUID]
    request: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Overlap(Ordered, Base):
    """A question of what two sets share, and the answer once there is one."""

    __tablename__ = "overlaps"
    __table_args__ = (Index("overlaps_of_project", "project", "id"),)

    result: Mapped[dict[str, Any] | None]


class Quality(Ordered, Base):
    """A cohort to be measured against real images, and what was measured once that is done."""

    __tablename__ = "qualities"
    __table_args__ = (Index("qualities_of_project", "project", "id"),)

    result: Mapped[dict[str, Any] | None]


class Export(Ordered, Base):
    """Data on its way out, in the version (`manifest`, `digest`) that was asked for."""

    __tablename__ = "exports"
    __table_args__ = (Index("exports_of_project", "project", "id"),)

    name: Mapped[str]
    manifest: Mapped[UUID]
    digest: Mapped[str]
    licence: Mapped[dict[str, Any]]
    images: Mapped[int]


class FeatureTable(Base):
    """Features that somebody's extractor gave of a dataset or cohort, in the version `manifest`."""

    __tablename__ = "features"
    __table_args__ = (Index("features_of_project", "project", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project: Mapped[UUID]
    owner: Mapped[UUID]
    request: Mapped[dict[str, Any]]
    manifest: Mapped[str]
    images: Mapped[int]
    dimension: Mapped[int]
    key: Mapped[str]
    sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=NOW)


class Judgement(Ordered, Base):
    """Predictions that somebody sent to be evaluated on their own, and what came out.

    `files` are their objects by what they are; `compared` is the data they are of.
    """

    __tablename__ = "judgements"
    __table_args__ = (Index("judgements_of_project", "project", "id"),)

    name: Mapped[str]
    files: Mapped[dict[str, Any]]
    compared: Mapped[dict[str, Any] | None]
    result: Mapped[dict[str, Any] | None]
