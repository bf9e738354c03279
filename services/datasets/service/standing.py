"""How datasets stand: whose they are, their newest manifest, and who was withdrawn."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, func, select, text
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


def roots(session: Session, rows: Sequence[models.Dataset]) -> dict[UUID, models.Dataset]:
    """By dataset, the import that owns its images: itself, but for a view."""
    ids = {row.root for row in rows if row.root is not None}
    found = session.scalars(select(models.Dataset).where(models.Dataset.id.in_(ids)))
    imports = {row.id: row for row in found}
    return {row.id: imports[row.root] if row.root else row for row in rows}


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


def withdrawn(session: Session, project: UUID) -> tuple[set[str], set[str]]:
    """Pseudonyms and sample ids that no manifest of the project may hold."""
    rows = session.execute(
        select(models.Withdrawal.patients, models.Withdrawal.samples).filter_by(project=project)
    ).all()
    return {p for row in rows for p in row.patients}, {s for row in rows for s in row.samples}
