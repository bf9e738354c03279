"""Withdrawal of patients: ordered by people, done by a worker, kept up by every later import.

An import and its views change in one transaction, so that no view can be made of rows that have
just gone. The images are removed once no manifest names them, and the old manifests last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import polars as pl
from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from api_schemas.base import Page
from api_schemas.withdrawals import WithdrawalRequest, WithdrawalView, Withdrawn
from services.datasets import models
from services.datasets.service.deriving import store_manifest
from services.datasets.service.ingest import QUEUE
from services.datasets.service.manifests import Manifests
from services.datasets.service.problems import WithdrawalUnknown
from services.datasets.service.standing import lock_manifests, newest
from services.datasets.views import withdrawal_view
from services.kit.auth import Caller
from services.kit.db import Database, Tx, new_id
from services.kit.erasure import COMPACT, Erasure
from services.kit.http import once, page
from services.kit.jobs import Jobs, Lease, NewJob, Released, lineage, step_of
from services.kit.jobs.pairing import require_pairing
from services.kit.objects import ObjectMissing, ObjectStore

WITHDRAW = "withdraw"
"""Kind of the job."""
UNIT = "datasets"


class Withdrawals:
    """The withdrawals of a caller's project."""

    def __init__(self, db: Database, jobs: Jobs) -> None:
        self._db = db
        self._jobs = jobs

    def order(self, caller: Caller, request: WithdrawalRequest, key: str | None) -> WithdrawalView:
        """From here on no import of the project takes them in; the job removes what is there.

        Raises `StoreMismatch` (503) while the store may not be this database's.
        """
        with self._db.transaction() as tx:
            require_pairing(tx.session)
            lock_manifests(tx.session, caller.project)
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
        )
        tx.session.add(row)
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
            roots = tx.session.scalars(
                select(models.Dataset.id)
                .where(models.Dataset.project == lease.caller.project)
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
            row = tx.session.get_one(models.Withdrawal, lease.resource)
            family = _family(tx.session, root)
            manifests = newest(tx.session, family)
        hit = _hit(row)
        changes = [c for m in manifests.values() if (c := self._change(lease, m, hit)) is not None]
        old = [str(c.before.id) for c in changes]
        more = [{**lease.payload, "step": "remove", "old": old}] if changes else []
        lease.progress(lease.payload["place"] + 1, lease.payload["of"], UNIT)
        with lease.finishing(more, last=self._erasure.last) as tx:
            lock_manifests(tx.session, lease.caller.project)
            now = newest(tx.session, _family(tx.session, root))
            if {m.id for m in now.values()} != {m.id for m in manifests.values()}:
                raise Released  # somebody made a view meanwhile: again, with it
            tx.session.add_all(c.after for c in changes)
            row = tx.session.get_one(models.Withdrawal, lease.resource)
            row.outcome = [*row.outcome, *map(_outcome, changes)]
            names = {name for c in changes for name in c.gone["sample_id"]}
            twins = models.Duplicate
            tx.session.execute(
                delete(twins)
                .where(twins.dataset == root)
                .where(or_(twins.sample_id.in_(names), twins.other_sample_id.in_(names)))
            )
            tx.session.execute(
                delete(models.Sample)
                .where(models.Sample.dataset == root)
                .where(
                    or_(
                        models.Sample.patient_id.in_(row.patients),
                        models.Sample.sample_id.in_(row.samples),
                    )
                )
            )

    def _change(self, lease: Lease, before: models.Manifest, hit: pl.Expr) -> _Change | None:
        lease.stop_now()
        table = self._manifests.scan(before)
        gone = table.filter(hit).select("patient_id", "sample_id").collect()
        if not gone.height:
            return None
        left = table.filter(~hit).collect()
        after = store_manifest(self._store, lease.caller.project, before.dataset, left)
        return _Change(before, after, gone)

    def _remove(self, lease: Lease) -> None:
        """Images first, then the manifests that name them, so that an interrupted removal can
        be repeated.
        """
        with self._db.transaction() as tx:
            row = tx.session.get_one(models.Withdrawal, lease.resource)
            ids = [UUID(old) for old in lease.payload["old"]]
            manifests = tx.session.scalars(
                select(models.Manifest).where(models.Manifest.id.in_(ids))
            ).all()
        hit = _hit(row)
        for manifest in manifests:
            lease.stop_now()
            try:
                keys = self._manifests.scan(manifest).filter(hit).select("image_key").collect()
            except ObjectMissing:
                continue  # an earlier attempt came this far
            self._erasure.remove(keys["image_key"].drop_nulls().to_list())
            self._erasure.remove([manifest.key])
            self._manifests.forget(manifest)
        lease.progress(lease.payload["place"] + 1, lease.payload["of"], UNIT)
        with lease.finishing(last=self._erasure.last):
            pass


def _hit(row: models.Withdrawal) -> pl.Expr:
    return pl.col("patient_id").is_in(row.patients) | pl.col("sample_id").is_in(row.samples)


def _family(session: Session, root: UUID) -> Sequence[UUID]:
    """An import and every view of it, but for what is deleted."""
    members = or_(models.Dataset.id == root, models.Dataset.root == root)
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
