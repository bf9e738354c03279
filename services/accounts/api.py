"""Routes of accounts: parse, call, return."""

from uuid import UUID

from fastapi import APIRouter

from api_schemas.accounts import KeyRequest, KeyView, Me, NewKey
from api_schemas.base import Page
from services.accounts.service import Accounts
from services.kit.auth import Admin, Reader
from services.kit.http import CursorQuery, LimitQuery


def routes(accounts: Accounts) -> APIRouter:
    router = APIRouter(tags=["accounts"])

    @router.get("/me")
    def get_me(caller: Reader) -> Me:
        """Who this key speaks for."""
        return accounts.me(caller)

    @router.post("/keys", status_code=201)
    def post_key(body: KeyRequest, caller: Admin) -> NewKey:
        """Make a key. It is shown in this answer and never again."""
        return accounts.make_key(caller, body)

    @router.get("/keys")
    def list_keys(
        caller: Reader, cursor: CursorQuery = None, limit: LimitQuery = 100
    ) -> Page[KeyView]:
        """Your keys in this project, without the keys themselves."""
        return accounts.keys(caller, cursor, limit)

    @router.delete("/keys/{key}", status_code=204)
    def revoke_key(key: UUID, caller: Admin) -> None:
        """Revoke a key; it is refused from now on."""
        accounts.revoke(caller, key)

    return router
