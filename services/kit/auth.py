"""Who is asking: API keys of people, and services acting on behalf of one.

Reads the shared views `accounts.active_keys` and `accounts.administrators`; does not know how keys
are made or revoked.
"""

import hashlib
import hmac
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from sqlalchemy import bindparam, text
from starlette.datastructures import Headers

from api_schemas.accounts import Scope
from services.kit.db import Database
from services.kit.errors import Forbidden, Unauthorized

KEY_PREFIX = "sx_"
_SECRET_LENGTH = 43  # 256 bits in URL-safe base64 without padding
_KEY_LENGTH = len(KEY_PREFIX) + _SECRET_LENGTH + 8


@dataclass(frozen=True)
class Caller:
    """A person in a project, and what the key at hand allows; `by_service`: another service asks
    on the person's behalf.
    """

    person: UUID
    project: UUID
    scopes: frozenset[Scope]
    by_service: bool = False


@dataclass(frozen=True)
class Identity:
    """Who asks, and the hash of the key that says so; None where a service acts for a person."""

    caller: Caller
    key_hash: str | None


def checksum(secret: str) -> str:
    """Eight hexadecimal digits that tell a mistyped key from an unknown one without a look-up."""
    return f"{zlib.crc32(secret.encode()):08x}"


def hash_key(key: str, pepper: str) -> str:
    """The keyed hash under which an API key is stored; 256 random bits need no slow hash."""
    return hmac.new(pepper.encode(), key.encode(), hashlib.sha256).hexdigest()


_FIND = text("SELECT person, project, scopes FROM accounts.active_keys WHERE hash = :hash")
_ADMINISTERS = text("SELECT 1 FROM accounts.administrators WHERE person = :person")
_ACTIVE = text("SELECT hash FROM accounts.active_keys WHERE hash IN :hashes").bindparams(
    bindparam("hashes", expanding=True)
)


class Auth:
    """Turns an `Authorization` header into a `Caller`, or refuses."""

    def __init__(self, db: Database, pepper: str, service_secret: str) -> None:
        self._db = db
        self._pepper = pepper
        self._service_secret = service_secret

    def caller(self, authorization: str) -> Caller:
        """Whom an `Authorization` header with a key speaks for. Raises `Unauthorized`."""
        return self.authenticate(Headers({"Authorization": authorization})).caller

    def authenticate(self, headers: Headers) -> Identity:
        """Raises `Unauthorized` (401).

        Person and project count only with the service credential.
        """
        scheme, _, credential = headers.get("Authorization", "").partition(" ")
        person, project = headers.get("Synthorax-Person"), headers.get("Synthorax-Project")
        if scheme.lower() == "service" and person and project:
            return Identity(self._service(credential, person, project), None)
        if scheme.lower() != "bearer" or not credential:
            raise Unauthorized("Send your key as 'Authorization: Bearer sx_...'")
        return self._person(credential.strip())

    def administers(self, caller: Caller) -> bool:
        """Whether this key of this person may do what concerns all projects."""
        if Scope.ADMIN not in caller.scopes:
            return False
        with self._db.transaction() as tx:
            return tx.session.scalar(_ADMINISTERS, {"person": caller.person}) is not None

    def active(self, hashes: Collection[str]) -> set[str]:
        """Those of the keys that are neither expired nor revoked."""
        if not hashes:
            return set()
        with self._db.transaction() as tx:
            return set(tx.session.scalars(_ACTIVE, {"hashes": list(hashes)}))

    def _person(self, key: str) -> Identity:
        well_formed = (
            len(key) == _KEY_LENGTH
            and key.isascii()
            and key.startswith(KEY_PREFIX)
            and checksum(key[len(KEY_PREFIX) : -8]) == key[-8:]
        )
        if not well_formed:
            raise Unauthorized("This is not a key of ours: its checksum is wrong")
        hashed = hash_key(key, self._pepper)
        with self._db.transaction() as tx:
            row = tx.session.execute(_FIND, {"hash": hashed}).one_or_none()
        if row is None:
            raise Unauthorized("This key is unknown, expired or revoked")
        caller = Caller(row.person, row.project, frozenset(Scope(s) for s in row.scopes))
        return Identity(caller, hashed)

    def _service(self, credential: str, person: str, project: str) -> Caller:
        if not hmac.compare_digest(credential.encode(), self._service_secret.encode()):
            raise Unauthorized("The service credential is wrong")
        try:
            scopes = frozenset({Scope.READ, Scope.WRITE})
            return Caller(UUID(person), UUID(project), scopes, by_service=True)
        except ValueError as error:
            raise Unauthorized("On behalf of whom? Person and project are UUIDs") from error


async def identity_of(request: Request) -> Identity:
    """What `services.kit.http.door` has found out before anything of the body was read."""
    identity: Identity = request.state.identity
    return identity


def _with(scope: Scope):  # noqa: ANN202 - a FastAPI dependency
    async def allowed(identity: Annotated[Identity, Depends(identity_of)]) -> Caller:
        if scope not in identity.caller.scopes:
            raise Forbidden(f"This needs the scope '{scope}'", accepted=[scope])
        return identity.caller

    return allowed


Reader = Annotated[Caller, Depends(_with(Scope.READ))]
Writer = Annotated[Caller, Depends(_with(Scope.WRITE))]
Admin = Annotated[Caller, Depends(_with(Scope.ADMIN))]
"""Parameter types of a route: who may call it."""
