"""A POST that is sent again makes nothing again: the key commits with what it made."""

import hashlib
from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import Header
from sqlalchemy import select, text

from api_schemas.base import Wire
from services.kit.auth import Caller
from services.kit.db import Tx
from services.kit.errors import Unprocessable
from services.kit.jobs.models import IdempotencyKey

IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        description="Send the same key again to get the first answer instead of a second job.",
    ),
]


class KeyUsedOtherwise(Unprocessable):
    slug = "idempotency-key-reused"
    title = "This Idempotency-Key was used with another body"


def earlier(tx: Tx, caller: Caller, key: str | None, body: Wire) -> UUID | None:
    """The resource that this key made before, to be asked for before anything else is: what a
    request needs of the world may be gone when it comes again.

    Raises `KeyUsedOtherwise` (422) when the key came with another body.
    """
    if key is None:
        return None
    found = tx.session.execute(select(IdempotencyKey).filter_by(**_place(caller, key)))
    row = found.scalar_one_or_none()
    if row is not None and (row.body_digest != _body_digest(body) or row.resource is None):
        raise KeyUsedOtherwise("Use a new key for a new request", field="Idempotency-Key")
    return None if row is None else row.resource


def once(tx: Tx, caller: Caller, key: str | None, body: Wire, make: Callable[[], UUID]) -> UUID:
    """The resource that `make` makes, or the one this key made before.

    The key commits with the resource. A second request with it waits for the first one's
    commit; another body raises `KeyUsedOtherwise` (422).
    """
    if key is None:
        return make()
    where = _place(caller, key)
    taken = tx.session.execute(_CLAIM_KEY, {**where, "body_digest": _body_digest(body)})
    if taken.one_or_none() is None:
        made = earlier(tx, caller, key, body)
        assert made is not None  # noqa: S101 - the insert met this very row
        return made
    resource = make()
    tx.session.execute(_FILL_KEY, {**where, "resource": resource})
    return resource


def _place(caller: Caller, key: str) -> dict[str, Any]:
    return {"project": caller.project, "person": caller.person, "key": key}


def _body_digest(body: Wire) -> str:
    return hashlib.sha256(f"{type(body).__name__}:{body.model_dump_json()}".encode()).hexdigest()


_CLAIM_KEY = text(
    "INSERT INTO jobs.idempotency_keys (project, person, key, body_digest) "
    "VALUES (:project, :person, :key, :body_digest) ON CONFLICT DO NOTHING RETURNING key"
)
_FILL_KEY = text(
    "UPDATE jobs.idempotency_keys SET resource = :resource "
    "WHERE project = :project AND person = :person AND key = :key"
)
