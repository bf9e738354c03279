"""Who is asking: API keys of people, and services acting on behalf of one.

Reads the one shared view `accounts.active_keys`; does not know how keys are made or revoked.
"""

import hashlib
import hmac
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from sqlalchemy import text

from api_schemas.accounts import Scope
from services.kit.db import Database
from services.kit.errors import Forbidden, Unauthorized

KEY_PREFIX = "sx_"
_SECRET_LENGTH = 43  # 256 bits in URL-safe base64 without padding
_KEY_LENGTH = len(KEY_PREFIX) + _SECRET_LENGTH + 8


@dataclass(frozen=True)
class Caller:
    """A person in a project, and what the key at hand allows."""

    person: UUID
    project: UUID
    scopes: frozenset[Scope]


def checksum(secret: str) -> str:
    """Eight hexadecimal digits that tell a mistyped key from an unknown one without a look-up."""
    return f"{zlib.crc32(secret.encode()):08x}"


def hash_key(key: str, pepper: str) -> str:
    """The keyed hash under which an API key is stored; 256 random bits need no slow hash."""
    return hmac.new(pepper.encode(), key.encode(), hashlib.sha256).hexdigest()


_FIND = text("SELECT person, project, scopes FROM accounts.active_keys WHERE hash = :hash")


class Auth:
    """Turns an `Authorization` header into a `Caller`, or refuses."""

    def __init__(self, db: Database, pepper: str, service_secret: str) -> None:
        self._db = db
        self._pepper = pepper
        self._service_secret = service_secret

    def caller(
        self, authorization: str | None, person: str | None = None, project: str | None = None
    ) -> Caller:
        """`person` and `project` count only with the service credential."""
        scheme, _, credential = (authorization or "").partition(" ")
        if scheme.lower() == "service" and person and project:
            return self._service(credential, person, project)
        if scheme.lower() != "bearer" or not credential:
            raise Unauthorized("Send your key as 'Authorization: Bearer sx_...'")
        return self._person(credential.strip())

    def _person(self, key: str) -> Caller:
        well_formed = (
            len(key) == _KEY_LENGTH
            and key.isascii()
            and key.startswith(KEY_PREFIX)
            and checksum(key[len(KEY_PREFIX) : -8]) == key[-8:]
        )
        if not well_formed:
            raise Unauthorized("This is not a key of ours: its checksum is wrong")
        with self._db.transaction() as tx:
            row = tx.session.execute(_FIND, {"hash": hash_key(key, self._pepper)}).one_or_none()
        if row is None:
            raise Unauthorized("This key is unknown, expired or revoked")
        return Caller(row.person, row.project, frozenset(Scope(s) for s in row.scopes))

    def _service(self, credential: str, person: str, project: str) -> Caller:
        if not hmac.compare_digest(credential.encode(), self._service_secret.encode()):
            raise Unauthorized("The service credential is wrong")
        try:
            return Caller(UUID(person), UUID(project), frozenset({Scope.READ, Scope.WRITE}))
        except ValueError as error:
            raise Unauthorized("On behalf of whom? Person and project are UUIDs") from error


def asks(request: Request) -> Caller:
    """The headers are read here and not declared: FastAPI would make an adapter for each of them
    for every route, half of what a web process does when it starts.
    """
    auth: Auth = request.app.state.auth
    told = request.headers.get
    return auth.caller(told("Authorization"), told("Synthorax-Person"), told("Synthorax-Project"))


def _still(request: Request) -> Callable[[], bool]:
    def holds() -> bool:
        try:
            asks(request)
        except Unauthorized:
            return False
        return True

    return holds


Still = Annotated[Callable[[], bool], Depends(_still)]
"""Parameter type of a route that answers for long: whether the caller's key holds still."""


def _with(scope: Scope):  # noqa: ANN202 - a FastAPI dependency
    def allowed(caller: Annotated[Caller, Depends(asks)]) -> Caller:
        if scope not in caller.scopes:
            raise Forbidden(f"This needs the scope '{scope}'", accepted=[scope])
        return caller

    return allowed


Reader = Annotated[Caller, Depends(_with(Scope.READ))]
Writer = Annotated[Caller, Depends(_with(Scope.WRITE))]
Admin = Annotated[Caller, Depends(_with(Scope.ADMIN))]
"""Parameter types of a route: who may call it."""
