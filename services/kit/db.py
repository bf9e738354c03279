"""Postgres: one engine a process, short transactions, and effects that wait for the commit."""

import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry


@dataclass
class Tx:
    """One transaction: its session, and what is to happen once it is committed."""

    session: Session
    effects: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def after_commit(self, effect: Callable[[], None]) -> None:
        """Run `effect` after the commit, never if the transaction is rolled back."""
        self.effects.append(effect)


PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""libpq's limits, in seconds (the last in ms): a host that vanished is noticed in half a minute."""
WAIT_S = 4
"""So long a request waits for a connection of the pool, or for a lock, before it is told to come
again. Nothing that holds a connection waits for a second one, so that only a flood comes to that.
"""

QUIET_S = 0.1
"""A pooled connection that nobody used for so long is asked whether it lives. No server is started
anew within that time.
"""


def _ask_the_quiet(engine: Engine) -> None:
    """Never hand out a connection that died in the pool; one just used is not asked."""

    @event.listens_for(engine, "checkin")
    def put_back(_connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def take_out(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        used: float | None = record.info.get("used")
        if used is None or time.monotonic() - used < QUIET_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise InvalidatePoolError from error


class Database:
    """The door to Postgres. Does not know any table."""

    def __init__(self, url: str, pool_size: int = 10) -> None:
        self.engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=30,
            pool_timeout=WAIT_S,
            hide_parameters=True,  # values never reach a log or an error
            connect_args=PATIENCE,
        )
        _ask_the_quiet(self.engine)
        self._connecting: dict[str, str] = {}

        @event.listens_for(self.engine, "do_connect")
        def connect(_dialect: object, _record: object, _args: object, told: dict[str, str]) -> None:
            told.update(self._connecting)

    def limit_waits(self) -> None:
        """Wait for no lock longer than `WAIT_S`, in connections that are made from now on. For
        processes that answer requests: a worker may wait for what another one holds.
        """
        self._connecting["options"] = f"-c lock_timeout={WAIT_S * 1000}"

    @contextmanager
    def transaction(self) -> Generator[Tx]:
        """Commit on leaving, roll back on any error; then run the effects that waited."""
        with Session(self.engine, expire_on_commit=False) as session:
            tx = Tx(session)
            with session.begin():
                yield tx
        for effect in tx.effects:
            effect()

    def close(self) -> None:
        self.engine.dispose()


def new_id() -> UUID:
    """A UUID version 7 (RFC 9562): 48 bits of milliseconds, then random; newer sorts later."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10))
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return UUID(int=value)
