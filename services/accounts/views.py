"""Rows of accounts as wire types."""

from api_schemas.accounts import KeyView, Scope
from services.accounts.models import Key


def key_view(row: Key) -> KeyView:
    return KeyView(
        id=row.id,
        name=row.name,
        scopes=[Scope(s) for s in row.scopes],
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
