"""Use cases of accounts: keys are made, listed and revoked; the first one comes from `mint`.

Here is also what concerns everybody's work alike: one job, the queue, a person's share of it.
"""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api_schemas.accounts import InstallationRole, KeyRequest, KeyView, Me, NewKey, Scope
from api_schemas.base import JobView, Page
from api_schemas.jobs import AttemptView, PriorityRequest, QueueView, ShareRequest, ShareView
from services.accounts.models import Key, Person, Project
from services.accounts.views import key_view
from services.kit.auth import KEY_PREFIX, Caller, checksum, hash_key
from services.kit.db import Database, new_id
from services.kit.errors import Forbidden, NotFound
from services.kit.http import page
from services.kit.jobs import Jobs, queue, shares


class KeyUnknown(NotFound):
    pass


class Accounts:
    """People and projects exist by name; a key belongs to a person in a project."""

    def __init__(self, db: Database, pepper: str) -> None:
        self._db = db
        self._pepper = pepper

    def mint(
        self,
        person: str,
        project: str,
        request: KeyRequest,
        role: InstallationRole | None = None,
    ) -> NewKey:
        """Make a key for a person in a project, making both when they are new; with `role`, that
        is the person's in the installation from now on.

        For whoever runs the installation: no route leads here.
        """
        with self._db.transaction() as tx:
            person_id = _named(tx.session, Person, person)
            project_id = _named(tx.session, Project, project)
            if role is not None:
                tx.session.get_one(Person, person_id).installation_role = role
            return self._add_key(tx.session, person_id, project_id, request)

    def make_key(self, caller: Caller, request: KeyRequest) -> NewKey:
        """A further key of the caller's; it can do no more than the one that asks for it."""
        beyond = set(request.scopes) - caller.scopes
        if beyond:
            raise Forbidden(
                f"Your key has no scope {', '.join(sorted(beyond))} to give",
                field="scopes",
                accepted=sorted(caller.scopes),
            )
        with self._db.transaction() as tx:
            return self._add_key(tx.session, caller.person, caller.project, request)

    def keys(self, caller: Caller, cursor: str | None, limit: int) -> Page[KeyView]:
        with self._db.transaction() as tx:
            mine = select(Key).where(Key.person == caller.person, Key.project == caller.project)
            return page(tx.session, mine, Key.id, cursor, limit, _views)

    def revoke(self, caller: Caller, key: UUID) -> None:
        """Revoke one of the caller's keys; revoked already is fine."""
        with self._db.transaction() as tx:
            row = tx.session.get(Key, key)
            if row is None or (row.person, row.project) != (caller.person, caller.project):
                raise KeyUnknown("You have no such key")
            if row.revoked_at is None:
                row.revoked_at = func.now()

    def revoke_all(self, person: str) -> int:
        """Revoke every key of a person, in all projects; answers how many there were.

        For whoever runs the installation: no route leads here.
        """
        theirs = select(Person.id).where(Person.name == person).scalar_subquery()
        standing = update(Key).where(Key.person == theirs, Key.revoked_at.is_(None))
        with self._db.transaction() as tx:
            revoked = tx.session.execute(standing.values(revoked_at=func.now()).returning(Key.id))
            return len(revoked.all())

    def me(self, caller: Caller) -> Me:
        with self._db.transaction() as tx:
            person = tx.session.get_one(Person, caller.person)
            project = tx.session.get_one(Project, caller.project)
            return Me(
                person=person.id,
                person_name=person.name,
                project=project.id,
                project_name=project.name,
                scopes=sorted(caller.scopes),
                installation_role=InstallationRole(person.installation_role),
            )

    def _add_key(
        self, session: Session, person: UUID, project: UUID, request: KeyRequest
    ) -> NewKey:
        secret = secrets.token_urlsafe(32)
        key = f"{KEY_PREFIX}{secret}{checksum(secret)}"
        row = Key(
            id=new_id(),
            hash=hash_key(key, self._pepper),
            name=request.name,
            person=person,
            project=project,
            scopes=[Scope(s).value for s in request.scopes],
            expires_at=func.now() + timedelta(days=request.days),
        )
        session.add(row)
        session.flush()
        session.refresh(row)
        return NewKey(**key_view(row).model_dump(), key=key)


def _views(rows: Sequence[Key]) -> list[KeyView]:
    return [key_view(row) for row in rows]


def _named(session: Session, kind: type[Person] | type[Project], name: str) -> UUID:
    session.execute(
        insert(kind).values(id=new_id(), name=name).on_conflict_do_nothing(index_elements=["name"])
    )
    return session.scalars(select(kind.id).where(kind.name == name)).one()


class ShareUnknown(NotFound):
    pass


class Work:
    """Everybody's jobs, whichever service they belong to: look, cancel, retry, and the queue."""

    def __init__(self, db: Database, jobs: Jobs, running_cap: int) -> None:
        self._db = db
        self._jobs = jobs
        self._running_cap = running_cap

    def queue(self, caller: Caller) -> list[QueueView]:
        """Every queue with unfinished work; what others run is not told."""
        with self._db.transaction() as tx:
            return [queue.view(tx, caller, name, self._running_cap) for name in queue.names(tx)]

    def job(self, caller: Caller, job: UUID) -> JobView:
        with self._db.transaction() as tx:
            return self._jobs.find(tx, caller, job)

    def attempts(self, caller: Caller, job: UUID) -> list[AttemptView]:
        with self._db.transaction() as tx:
            return self._jobs.attempts(tx, self._jobs.find(tx, caller, job).id)

    def cancel(self, caller: Caller, job: UUID) -> JobView:
        with self._db.transaction() as tx:
            return self._jobs.cancel(tx, self._jobs.find(tx, caller, job).id)

    def retry(self, caller: Caller, job: UUID) -> JobView:
        with self._db.transaction() as tx:
            return self._jobs.retry(tx, self._jobs.find(tx, caller, job).id)

    def prioritise(self, caller: Caller, job: UUID, request: PriorityRequest) -> JobView:
        """Anybody may step back; to go before others, of other projects too, takes an
        administrator of the installation.
        """
        with self._db.transaction() as tx:
            if request.priority > 0 and not _administers(tx.session, caller):
                raise Forbidden(
                    "Only an administrator of the installation lets work go before that of others",
                    field="priority",
                    accepted="-10 to 0",
                )
            return self._jobs.prioritise(tx, self._jobs.find(tx, caller, job).id, request.priority)

    def share(self, caller: Caller, person: UUID) -> ShareView:
        """One's own share; an administrator of the installation sees everybody's."""
        with self._db.transaction() as tx:
            if person != caller.person and not _administers(tx.session, caller):
                raise ShareUnknown("There is no such person here")
            if tx.session.get(Person, person) is None:
                raise ShareUnknown("There is no such person here")
            return shares.view(tx, person)

    def grant(self, caller: Caller, person: UUID, request: ShareRequest) -> ShareView:
        """For administrators of the installation: the machines are everybody's."""
        with self._db.transaction() as tx:
            if not _administers(tx.session, caller):
                raise Forbidden(
                    "Only an administrator of the installation grants shares of the machines"
                )
            if tx.session.get(Person, person) is None:
                raise ShareUnknown("There is no such person here")
            return shares.grant(tx, person, request)


def _administers(session: Session, caller: Caller) -> bool:
    """Whether this key of this person may do what concerns all projects."""
    if Scope.ADMIN not in caller.scopes:
        return False
    person = session.get_one(Person, caller.person)
    return person.installation_role == InstallationRole.ADMIN
