"""Withdrawal of patients: ordered by people, done by a worker, kept up by every later import.

An import and its views change in one transaction, so that no view can be made of rows that have
just gone. The images are removed once no manifest names them, and the old manifests last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import polars as pl
from sqlalchemy import (
    ColumnElement,
    any_,
    delete,
    distinct,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.orm import Session

from api_schemas.base import Page
from api_schemas.withdrawals import WithdrawalRequest, WithdrawalView, Withdrawn
from services.datasets import models
from services.datasets.service.deriving import store_manifest
from services.datasets.service.ingest import QUEUE
from services.datasets.service.manifests import Manifests
from services.datasets.service.problems import WithdrawalUnknown
from services.datasets.service.standing import among, lock_manifests, newest
from services.datasets.views import withdrawal_view
from services.kit.auth import Auth, Caller
from services.kit.db import Database, Tx, new_id
from services.kit.erasure import COMPACT, Erasure
from services.kit.errors import Forbidden
from services.kit.http import once, page
from services.kit.jobs import Jobs, Lease, NewJob, Released, lineage, step_of
from services.kit.jobs.pairing import require_pairing
from services.kit.objects import ObjectMissing, ObjectStore

WITHDRAW = "withdraw"
"""Kind of the job."""
UNIT = "datasets"


class Withdrawals:
    """The withdrawals that a caller's project has ordered."""

    def __init__(self, db: Database, jobs: Jobs, auth: Auth) -> None:
        self._db = db
        self._jobs = jobs
        self._auth = auth

    def order(self, caller: Caller, request: WithdrawalRequest, key: str | None) -> WithdrawalView:
        """From here on no import of the project takes them in; the job removes what is there.

        Raises `StoreMismatch` (503) while the store may not be this database's, and `Forbidden`
        (403) where somebody else than an administrator withdraws from all projects.
        """
        if request.everywhere and not self._auth.administers(caller):
            raise Forbidden(
                "Only an administrator of the installation withdraws from all projects",
                field="everywhere",
                accepted=False,
            )
        with self._db.transaction() as tx:
            require_pairing(tx.session)
            for project in _projects(tx.session, caller, request):
                lock_manifests(tx.session, project)
            made = once(tx, caller, key, request, lambda: self._submit(tx, caller, request))
            return self._view(tx, _find(tx.session, caller, made))

    def withdrawal(self, caller: Caller, withdrawal: UUID) -> WithdrawalView:
        with self._db.transaction() as tx:
            return self._view(tx, _find(tx.session, caller, withdrawal))

    def browse(self, caller: Caller, cursor: str | None, limit: int) -> Page[WithdrawalView]:
        """The project's withdrawals, newest first."""
        with self._db.transaction() as tx:
            mine = select(models.Withdrawal).where(models.Withdrawal.project == caller.project)
            return page(
                tx.session,
                mine,
                models.Withdrawal.id,
                cursor,
                limit,
                lambda rows: self._views(tx, rows),
                newest_first=True,
            )

    def _submit(self, tx: Tx, caller: Caller, request: WithdrawalRequest) -> UUID:
        row = models.Withdrawal(
            id=new_id(),
            project=caller.project,
            owner=caller.person,
            job=new_id(),
            patients=sorted(set(request.patients)),
            samples=sorted(set(request.samples)),
            note=request.note,
            everywhere=request.everywhere,
            found=_found(tx.session, caller, request),
            elsewhere=_elsewhere(tx.session, caller, request),
        )
        tx.session.add(row)
        tx.session.flush()
        _note_pictures(tx.session, row)
        self._jobs.submit(
            tx,
            NewJob(
                id=row.job,
                service="datasets",
                kind=WITHDRAW,
                queue=QUEUE,
                caller=caller,
                resource=row.id,
                inputs={},
                slices=[{"step": "plan"}],
                unit=UNIT,
            ),
        )
        tx.session.flush()
        return row.id

    def _view(self, tx: Tx, row: models.Withdrawal) -> WithdrawalView:
        return self._views(tx, [row])[0]

    def _views(self, tx: Tx, rows: Sequence[models.Withdrawal]) -> list[WithdrawalView]:
        jobs = self._jobs.views(tx, [row.job for row in rows])
        return [withdrawal_view(row, jobs[row.job]) for row in rows]


@dataclass(frozen=True)
class _Change:
    """One dataset that holds withdrawn rows: its manifest, and the one to come."""

    before: models.Manifest
    after: models.Manifest
    gone: pl.DataFrame


class Withdraw:
    """Handler of the slices of a withdrawal: plan, then import after import with its views, and
    at last the bytes that the store keeps of objects that are gone.
    """

    def __init__(
        self, db: Database, store: ObjectStore, manifests: Manifests, erasure: Erasure
    ) -> None:
        self._db = db
        self._store = store
        self._manifests = manifests
        self._erasure = erasure

    def __call__(self, lease: Lease) -> None:
        self._erasure.check()
        match step_of(lease, "plan", "family", "remove", COMPACT):
            case "plan":
                self._plan(lease)
            case "family":
                self._family(lease, UUID(lease.payload["root"]))
            case "remove":
                self._remove(lease)
            case _:
                self._erasure.compact()
                with lease.finishing():
                    pass

    def _plan(self, lease: Lease) -> None:
        with self._db.transaction() as tx:
            row = tx.session.get_one(models.Withdrawal, lease.resource)
            roots = tx.session.scalars(
                select(models.Dataset.id)
                .where(_within(row, row.project))
                .where(models.Dataset.root.is_(None), lineage.visible(models.Dataset.id))
                .order_by(models.Dataset.id)
            ).all()
        more = [
            {"step": "family", "root": str(root), "place": i, "of": len(roots)}
            for i, root in enumerate(roots)
        ]
        lease.progress(0, len(roots), UNIT)
        with lease.finishing(more):
            pass

    def _family(self, lease: Lease, root: UUID) -> None:
        """Write the manifests of an import and its views anew, without the withdrawn rows."""
        with self._db.transaction() as tx:
            project = tx.session.get_one(models.Dataset, root).project
            family = _family(tx.session, root)
            manifests = newest(tx.session, family)
            hit = _hit(tx.session, lease.resource)
        found = (self._change(lease, project, each, hit) for each in manifests.values())
        changes = [change for change in found if change is not None]
        old = [str(c.before.id) for c in changes]
        more = [{**lease.payload, "step": "remove", "old": old}] if changes else []
        lease.progress(lease.payload["place"] + 1, lease.payload["of"], UNIT)
        with lease.finishing(more, last=self._erasure.last) as tx:
            lock_manifests(tx.session, project)
            now = newest(tx.session, _family(tx.session, root))
            if {m.id for m in now.values()} != {m.id for m in manifests.values()}:
                raise Released  # somebody made a view meanwhile: again, with it
            tx.session.add_all(c.after for c in changes)
            row = tx.session.get_one(models.Withdrawal, lease.resource)
            if project == row.project:
                row.outcome = [*row.outcome, *map(_outcome, changes)]
            names = {*row.samples, *(name for c in changes for name in c.gone["sample_id"])}
            twins = models.Duplicate
            tx.session.execute(
                delete(twins)
                .where(twins.dataset == root)
                .where(or_(among(twins.sample_id, names), among(twins.other_sample_id, names)))
            )
            tx.session.execute(
                delete(models.Sample)
                .where(models.Sample.dataset == root)
                .where(
                    or_(
                        among(models.Sample.patient_id, row.patients),
                        among(models.Sample.sample_id, names),
                    )
                )
            )

    def _change(
        self, lease: Lease, project: UUID, before: models.Manifest, hit: pl.Expr
    ) -> _Change | None:
        lease.stop_now()
        table = self._manifests.scan(before)
        gone = table.filter(hit).select("patient_id", "sample_id").collect()
        if not gone.height:
            return None
        left = table.filter(~hit).collect()
        after = store_manifest(self._store, project, before.dataset, left)
        return _Change(before, after, gone)

    def _remove(self, lease: Lease) -> None:
        """Images first, then the manifests that name them, so that an interrupted removal can
        be repeated.
        """
        with self._db.transaction() as tx:
            hit = _hit(tx.session, lease.resource)
            ids = [UUID(old) for old in lease.payload["old"]]
            manifests = tx.session.scalars(
                select(models.Manifest).where(models.Manifest.id.in_(ids))
            ).all()
        for manifest in manifests:
            lease.stop_now()
            try:
                keys = self._manifests.scan(manifest).filter(hit).select("image_key").collect()
            except ObjectMissing:
                continue  # an earlier attempt came this far
            self._erasure.remove(keys["image_key"].drop_nulls().to_list())
            self._erasure.remove([manifest.key])
            self._manifests.forget(manifest)
        of = lease.payload["of"]
        lease.progress(of, of, UNIT, "removing images")  # every manifest has been written anew
        with lease.finishing(last=self._erasure.last):
            pass


def _projects(session: Session, caller: Caller, request: WithdrawalRequest) -> list[UUID]:
    """The projects of which it may take somebody out, in one order for all."""
    if not request.everywhere:
        return [caller.project]
    return sorted({caller.project, *session.scalars(select(models.Dataset.project).distinct())})


def _within(order: WithdrawalRequest | models.Withdrawal, project: UUID) -> ColumnElement[bool]:
    return true() if order.everywhere else models.Dataset.project == project


def _found(session: Session, caller: Caller, request: WithdrawalRequest) -> int:
    """How many of those named the datasets hold from which they are taken."""
    sample, dataset = models.Sample, models.Dataset
    there = (
        select(
            func.count(distinct(sample.patient_id)).filter(
                among(sample.patient_id, request.patients)
            ),
            func.count(distinct(sample.sample_id)).filter(among(sample.sample_id, request.samples)),
        )
        .join(dataset, dataset.id == sample.dataset)
        .where(_names(request), _within(request, caller.project), lineage.visible(dataset.id))
    )
    patients, samples = session.execute(there).one()
    return patients + samples


def _elsewhere(session: Session, caller: Caller, request: WithdrawalRequest) -> int:
    """How many imports of other projects hold any of those named."""
    sample, dataset = models.Sample, models.Dataset
    there = (
        select(func.count(distinct(dataset.id)))
        .join(sample, dataset.id == sample.dataset)
        .where(_names(request), dataset.project != caller.project, lineage.visible(dataset.id))
    )
    return session.scalar(there) or 0


def _names(request: WithdrawalRequest) -> ColumnElement[bool]:
    sample = models.Sample
    return or_(among(sample.patient_id, request.patients), among(sample.sample_id, request.samples))


def _note_pictures(session: Session, row: models.Withdrawal) -> None:
    """Note the pixels that the project shall not have again: all of the patients named, and those
    of the samples named that no other sample has.
    """
    sample, dataset = models.Sample, models.Dataset
    there = (
        select(sample.pixel_sha256)
        .join(dataset, dataset.id == sample.dataset)
        .where(_within(row, row.project), lineage.visible(dataset.id))
        .where(sample.pixel_sha256.is_not(None))
    )
    of_patients = there.where(among(sample.patient_id, row.patients))
    of_samples = there.where(among(sample.sample_id, row.samples))
    of_others = there.where(
        not_(among(sample.patient_id, row.patients)), not_(among(sample.sample_id, row.samples))
    )
    pictures = of_patients.union(of_samples.except_(of_others)).subquery()
    session.execute(
        insert(models.WithdrawnPicture).from_select(
            ["withdrawal", "pixel_sha256"], select(literal(row.id), pictures.c.pixel_sha256)
        )
    )


def _hit(session: Session, withdrawal: UUID) -> pl.Expr:
    """Which rows of a manifest a withdrawal takes."""
    row = session.get_one(models.Withdrawal, withdrawal)
    pictures = session.scalars(
        select(models.WithdrawnPicture.pixel_sha256).filter_by(withdrawal=withdrawal)
    ).all()
    named = pl.col("patient_id").is_in(row.patients) | pl.col("sample_id").is_in(row.samples)
    return named | pl.col("pixel_sha256").is_in(pictures).fill_null(value=False)


def _family(session: Session, root: UUID) -> Sequence[UUID]:
    """An import and every view of it, but for what is deleted."""
    members = or_(
        models.Dataset.id == root,
        models.Dataset.root == root,
        literal(root) == any_(models.Dataset.joined),
    )
    there = lineage.visible(models.Dataset.id)
    return session.scalars(select(models.Dataset.id).where(members, there)).all()


def _outcome(change: _Change) -> dict[str, Any]:
    return Withdrawn(
        dataset=change.before.dataset,
        manifest_before=change.before.id,
        manifest_after=change.after.id,
        images=change.gone.height,
        patients=change.gone["patient_id"].n_unique(),
    ).model_dump(mode="json")


def _find(session: Session, caller: Caller, withdrawal: UUID) -> models.Withdrawal:
    row = session.get(models.Withdrawal, withdrawal)
    if row is None or row.project != caller.project:
        raise WithdrawalUnknown("There is no such withdrawal")
    return row
