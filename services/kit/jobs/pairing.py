"""Whether database and object store belong together: the same installation id stands in both.

A new, older or foreign database beside a full store knows few of the store's objects, or none.
All of them would look like leftovers, and the collector would remove them. So whatever removes
objects asks here first. The collector's rounds are counted in both places: a backup of either
that was restored has counted fewer.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from minio.error import S3Error
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.kit.db import Database
from services.kit.jobs.faults import StoreMismatch
from services.kit.jobs.models import Installation, Job, Resource
from services.kit.objects import ObjectMissing, ObjectStore

NAMEPLATE = "installation"
"""Key of the object that says whose the store is."""
ROOT = "projects/"
SAMPLE = 1000
ADVICE = "Look at both with 'adopt' (docs/delete-data.md); nothing is removed before"


@dataclass(frozen=True)
class Nameplate:
    """Which installation a database or a store belongs to, and how many rounds it has seen."""

    id: UUID
    rounds: int

    def encode(self) -> bytes:
        return json.dumps({"installation": str(self.id), "rounds": self.rounds}).encode()


class Pairing:
    """A database and an object store, and whether the one belongs to the other."""

    def __init__(self, db: Database, store: ObjectStore) -> None:
        self._db = db
        self._store = store

    def check(self) -> None:
        """Raises `StoreMismatch` unless they belong together; a new store is given its nameplate.

        The store is read first: a round that is counted meanwhile shows in the database alone.
        """
        store = self.of_store()
        with self._db.transaction() as tx:
            row = _row(tx.session)
        if store is None and row.paired_at is None and self._is_ours():
            self._pair()
            return
        reason = _mismatch(row, store)
        if reason != row.mismatch:
            self._note(reason)
        if reason:
            raise StoreMismatch(f"{reason}. {ADVICE}")

    def count_round(self) -> None:
        """`check`, and count one more round in both."""
        self.check()
        with self._db.transaction() as tx:
            row = _row(tx.session)
        # A crash in between leaves the store one behind, never two.
        self._store.put(NAMEPLATE, Nameplate(row.id, row.rounds).encode())
        with self._db.transaction() as tx:
            tx.session.execute(update(Installation).values(rounds=row.rounds + 1))
        self._store.put(NAMEPLATE, Nameplate(row.id, row.rounds + 1).encode())

    def adopt(self) -> None:
        """From now on they belong together: somebody has looked and said so."""
        with self._db.transaction() as tx:
            _row(tx.session)
        self._pair()

    def of_database(self) -> Nameplate:
        with self._db.transaction() as tx:
            row = _row(tx.session)
            return Nameplate(row.id, row.rounds)

    def of_store(self) -> Nameplate | None:
        """The store's nameplate, None when it has none."""
        try:
            content = self._store.get(NAMEPLATE)
        except ObjectMissing:
            return None
        except S3Error as error:
            if error.code != "NoSuchBucket":
                raise
            return None
        told: dict[str, Any] = json.loads(content)
        return Nameplate(UUID(told["installation"]), int(told["rounds"]))

    def known(self, resources: Iterable[UUID]) -> set[UUID]:
        """Those of some resources that the database has ever heard of."""
        ids = set(resources)
        with self._db.transaction() as tx:
            noted = tx.session.scalars(select(Resource.id).where(Resource.id.in_(ids)))
            worked_on = tx.session.scalars(select(Job.resource).where(Job.resource.in_(ids)))
            return {*noted, *worked_on}

    def _is_ours(self) -> bool:
        """Whether a store without a nameplate holds only what this database made: as in the first
        minute of an installation.
        """
        try:
            keys = list(islice(self._store.keys(ROOT), SAMPLE))
        except S3Error as error:
            if error.code != "NoSuchBucket":
                raise
            return True
        resources = {resource for key in keys if (resource := resource_of(key)) is not None}
        return self.known(resources) == resources

    def _pair(self) -> None:
        self._store.put(NAMEPLATE, self.of_database().encode())
        with self._db.transaction() as tx:
            paired = update(Installation).values(paired_at=func.now(), mismatch="")
            tx.session.execute(paired)

    def _note(self, reason: str) -> None:
        with self._db.transaction() as tx:
            tx.session.execute(update(Installation).values(mismatch=reason))


def require_pairing(session: Session) -> None:
    """Raises `StoreMismatch` when the control process has found that the store is not ours: for
    requests, which ask no other server.
    """
    reason = session.scalar(select(Installation.mismatch))
    if reason:
        raise StoreMismatch(f"{reason}. {ADVICE}")


def resource_of(key: str) -> UUID | None:
    """The resource of `projects/{project}/{folder}/{resource}/...`, None for any other key."""
    match key.split("/"):
        case [_, _, _, resource, *rest] if rest:
            try:
                return UUID(resource)
            except ValueError:
                return None
        case _:
            return None


def _row(session: Session) -> Installation:
    """The database's own; a new database gets its id here."""
    found = session.scalars(select(Installation)).one_or_none()
    if found is not None:
        return found
    session.execute(insert(Installation).values(one=True).on_conflict_do_nothing())
    return session.scalars(select(Installation)).one()


def _mismatch(row: Installation, store: Nameplate | None) -> str:
    """In words, why they do not belong together; empty when they do."""
    if store is None:
        if row.paired_at is None:
            return "The object store holds objects that this database has never heard of"
        return "The object store is empty or another one: it does not name this installation"
    if store.id != row.id:
        return "The object store belongs to another installation than this database"
    if store.rounds > row.rounds:
        return "The database is older than the object store, as after restoring a backup"
    if store.rounds < row.rounds - 1:
        return "The object store is older than the database, as after restoring a backup"
    return ""
