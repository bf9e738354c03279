"""The web face that all services share: problems, idempotency, paging, event streams."""

from services.kit.http.admission import COUNTS_ITSELF, Admit
from services.kit.http.app import BODY_LIMIT, web_app
from services.kit.http.events import Events
from services.kit.http.idempotency import IdempotencyHeader, earlier, once
from services.kit.http.paging import (
    BadCursor,
    CursorQuery,
    LimitQuery,
    decode_cursor,
    encode_cursor,
    page,
)

__all__ = [
    "BODY_LIMIT",
    "COUNTS_ITSELF",
    "Admit",
    "BadCursor",
    "CursorQuery",
    "Events",
    "IdempotencyHeader",
    "LimitQuery",
    "decode_cursor",
    "earlier",
    "encode_cursor",
    "once",
    "page",
    "web_app",
]
