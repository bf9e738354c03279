"""Waiting for the lock of a row, but not for long: somebody may hold it for minutes.

Whoever plans a million images holds their job's row until all of them are written. Nobody else's
work may stand still for that.
"""

from collections.abc import Generator
from contextlib import contextmanager

from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

WAIT_MS = 1000

_LIMIT = text("SELECT set_config('lock_timeout', :limit, true)")
_RESET = text("SET LOCAL lock_timeout TO DEFAULT")


class RowBusy(Exception):
    """Somebody held a lock for longer than we wait. The transaction is over."""


@contextmanager
def brief_wait(session: Session, wait_ms: int = WAIT_MS) -> Generator[None]:
    """What is done within waits no longer than this for any lock; then `RowBusy` is raised."""
    session.execute(_LIMIT, {"limit": f"{wait_ms}ms"})
    try:
        yield
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise RowBusy from error
        raise
    session.execute(_RESET)
