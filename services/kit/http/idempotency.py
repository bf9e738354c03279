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
from services.kit.errors import Conflict, Gone, Unprocessable
from services.kit.jobs import lineage
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


class ReplayOfDeleted(Gone):
    slug = "replay-of-deleted"
    title = "What this Idempotency-Key made has been deleted"


class KeyInUse(Conflict):
    slug = "idempotency-key-in-use"
    title = "A request with this Idempotency-Key is being answered"
    retry_after_s = 1


def earlier(tx: Tx, caller: Caller, key: str | None, body: Wire) -> UUID | None:
    """The resource that this key made before, to be asked for before anything else is: what a
    request needs of the world may be gone when it comes again.

    Raises `KeyUsedOtherwise` (422) when the key came with another body, and `ReplayOfDeleted`
    (410), which names the deletion, when the resource has been deleted since.
    """
    if key is None:
        return None
    found = tx.session.execute(select(IdempotencyKey).filter_by(**_place(caller, key)))
    row = found.scalar_one_or_none()
    if row is not None and (row.body_digest != _body_digest(body) or row.resource is None):
        raise KeyUsedOtherwise("Use a new key for a new request", field="Idempotency-Key")
    if row is None or row.resource is None:
        return None
    _refuse_deleted(tx, row.resource)
    return row.resource


def _refuse_deleted(tx: Tx, resource: UUID) -> None:
    gone = lineage.deleted(tx.session, resource)
    if gone is not None:
        raise ReplayOfDeleted(
            f"The {gone.kind} '{gone.name}' was made and has been deleted: use a new key to make "
            "another one",
            field="Idempotency-Key",
            deletion={"kind": gone.kind, "id": str(gone.id), "job": str(gone.deletion)},
        )


def once(tx: Tx, caller: Caller, key: str | None, body: Wire, make: Callable[[], UUID]) -> UUID:
    """The resource that `make` makes, or the one this key made before.

    The key commits with the resource. `make` only writes rows: ask other services and the object
    store before the transaction begins, because it holds a connection of the pool. Nobody waits
    here for another request with the same key: `KeyInUse` (409) says that one is under way in
    another process. Another body raises `KeyUsedOtherwise` (422).
    """
    if key is None:
        return make()
    made = earlier(tx, caller, key, body)
    if made is not None:
        return made
    where = _place(caller, key)
    lock = "/".join(map(str, ("idempotency", *where.values())))
    if not tx.session.scalar(_TRY_TO_LOCK, {"key": lock}):
        raise KeyInUse("Send it again in a moment", field="Idempotency-Key")
    made = earlier(tx, caller, key, body)  # it may have committed before the lock was ours
    if made is None:
        made = make()
        tx.session.add(IdempotencyKey(**where, body_digest=_body_digest(body), resource=made))
        tx.session.flush()
    return made


def _place(caller: Caller, key: str) -> dict[str, Any]:
    return {"project": caller.project, "person": caller.person, "key": key}


def _body_digest(body: Wire) -> str:
    return hashlib.sha256(f"{type(body).__name__}:{body.model_dump_json()}".encode()).hexdigest()


_TRY_TO_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))")
