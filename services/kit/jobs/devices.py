"""A device that several workers take turns on: an advisory lock named after host and device."""

from contextlib import suppress

from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, text
from sqlalchemy.exc import InterfaceError, OperationalError

from services.kit.db import Database

_TRY = text("SELECT pg_try_advisory_lock(hashtextextended(:key, 0))")
_AWAIT = text("SELECT pg_advisory_lock(hashtextextended(:key, 0))")
_RELEASE = text("SELECT pg_advisory_unlock(hashtextextended(:key, 0))")


class Device:
    """One worker's hold on a device. Those that wait for it are served in the order they came."""

    def __init__(self, db: Database, name: str) -> None:
        self._db = db
        self._key = {"key": f"device:{name}"}
        self._connection: Connection | None = None

    @property
    def is_held(self) -> bool:
        return self._connection is not None

    def acquire(self, wait_s: float = 0.0) -> bool:
        """Hold the device, after at most `wait_s`; whether it is ours."""
        if self._connection is not None:
            return True
        connection = self._db.engine.execution_options(isolation_level="AUTOCOMMIT").connect()
        try:
            held = self._lock(connection, wait_s)
        except BaseException:
            connection.close()
            raise
        if held:
            self._connection = connection
        else:
            connection.close()
        return held

    def release(self) -> None:
        """Leave the device to others; nothing where it is not held."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with connection, suppress(OperationalError, InterfaceError):  # gone with its session
            connection.execute(_RELEASE, self._key)

    def _lock(self, connection: Connection, wait_s: float) -> bool:
        if not wait_s:
            return bool(connection.scalar(_TRY, self._key))
        connection.execute(text(f"SET lock_timeout = '{round(wait_s * 1000)}ms'"))
        try:
            connection.execute(_AWAIT, self._key)
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            return False
        finally:
            with suppress(OperationalError, InterfaceError):
                connection.execute(text("RESET lock_timeout"))
        return True
