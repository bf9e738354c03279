"""How datasets stand: whose they are, their newest manifest, and who was withdrawn."""

from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    SQLColumnExpression,
    String,
    any_,
    func,
    or_,
    select,
    text,
)
from sqlalchemy import cast as as_type
from sqlalchemy.orm import Session

from services.datasets import models
from services.datasets.service.problems import DatasetNotReady, DatasetUnknown
from services.kit.auth import Caller
from services.kit.jobs import lineage


def mine(caller: Caller) -> Select[models.Dataset]:
    """The datasets of the caller's project that are not deleted."""
    there = lineage.visible(models.Dataset.id)
    return select(models.Dataset).where(models.Dataset.project == caller.project, there)


def find(session: Session, caller: Caller, dataset: UUID, *, lock: bool = False) -> models.Dataset:
    """The caller's dataset; raises `DatasetUnknown` for any other id."""
    query = mine(caller).filter_by(id=dataset)
    row = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise DatasetUnknown("There is no such dataset")
    return row


def ready(session: Session, row: models.Dataset) -> models.Manifest:
    """The newest manifest; raises `DatasetNotReady` (409) while there is none."""
    manifest = newest(session, [row.id]).get(row.id)
    if manifest is None:
        raise DatasetNotReady("Its import has not finished, or did not succeed")
    return manifest


def newest(session: Session, datasets: Sequence[UUID]) -> dict[UUID, models.Manifest]:
    """The newest manifest of each."""
    rows = session.scalars(
        select(models.Manifest)
        .where(models.Manifest.dataset.in_(datasets))
        .order_by(models.Manifest.id)
    )
    return {row.dataset: row for row in rows}


def roots(session: Session, rows: Sequence[models.Dataset]) -> dict[UUID, list[models.Dataset]]:
    """By dataset, the imports that own its images: itself, but for a view."""
    ids = {each for row in rows for each in root_ids(row)}
    found = session.scalars(select(models.Dataset).where(models.Dataset.id.in_(ids)))
    imports = {row.id: row for row in found}
    return {row.id: [imports[each] for each in root_ids(row)] for row in rows}


def root_ids(row: models.Dataset) -> list[UUID]:
    return [row.root or row.id, *row.joined]


def rejected(session: Session, datasets: Sequence[UUID]) -> dict[UUID, int]:
    """How many rows of each source could not be used."""
    rows = session.execute(
        select(models.Rejection.dataset, func.count())
        .where(models.Rejection.dataset.in_(datasets))
        .group_by(models.Rejection.dataset)
    )
    return {row[0]: row[1] for row in rows}


def lock_manifests(session: Session, project: UUID) -> None:
    """Until the transaction ends nobody else in the project writes a manifest, withdraws or
    deletes.

    Without it a manifest could be finished beside a withdrawal and neither see the other.
    """
    lineage.share(session, project)
    key = {"key": f"manifests:{project}"}
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), key)


def among(column: SQLColumnExpression[Any], names: Collection[str]) -> ColumnElement[bool]:
    """Whether the value is one of `names`, of which there may be more than a statement may have
    parameters.
    """
    return column == any_(as_type(list(names), ARRAY(String)))


class Banned(NamedTuple):
    """What no manifest of a project may hold: patients, sample ids, and digests of pixels."""

    patients: set[str]
    samples: set[str]
    pictures: set[str]

    def hold(self, sample: models.Sample, pixel_sha256: str) -> bool:
        exported_as = PurePosixPath(sample.place or "").stem
        return (
            sample.patient_id in self.patients
            or bool(self.samples & {sample.sample_id, exported_as})
            or pixel_sha256 in self.pictures
        )


def binds(project: UUID) -> ColumnElement[bool]:
    """Whether a withdrawal is of this project's datasets."""
    return or_(models.Withdrawal.project == project, models.Withdrawal.everywhere)


def withdrawn(session: Session, project: UUID) -> Banned:
    rows = session.execute(
        select(models.Withdrawal.patients, models.Withdrawal.samples).where(binds(project))
    ).all()
    pictures = session.scalars(
        select(models.WithdrawnPicture.pixel_sha256)
        .join(models.Withdrawal, models.Withdrawal.id == models.WithdrawnPicture.withdrawal)
        .where(binds(project))
    )
    return Banned(
        {p for row in rows for p in row.patients},
        {s for row in rows for s in row.samples},
        set(pictures),
    )


def known_patients(session: Session, names: Collection[str]) -> set[str]:
    """Those of `names` that are pseudonyms of this installation: of patients whom some dataset,
    of whatever project, holds, or who were withdrawn from one.
    """
    if not names:
        return set()
    held = select(models.Sample.patient_id).where(among(models.Sample.patient_id, names))
    gone = select(
        func.jsonb_array_elements_text(models.Withdrawal.patients).label("patient")
    ).subquery()
    left = select(gone.c.patient).where(among(gone.c.patient, names))
    return set(session.scalars(held.union(left)))
