"""The web face that all services share: problems, idempotency, paging, event streams."""

from services.kit.http.app import BODY_LIMIT, COUNTS_ITSELF, web_app
from services.kit.http.events import LastEvent, job_events
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
    "BadCursor",
    "CursorQuery",
    "IdempotencyHeader",
    "LastEvent",
    "LimitQuery",
    "decode_cursor",
    "earlier",
    "encode_cursor",
    "job_events",
    "once",
    "page",
    "web_app",
]
