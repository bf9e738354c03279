"""Postgres: one engine a process, short transactions, and effects that wait for the commit."""

import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session


@dataclass
class Tx:
    """One transaction: its session, and what is to happen once it is committed."""

    session: Session
    effects: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])

    def after_commit(self, effect: Callable[[], None]) -> None:
        """Run `effect` after the commit, never if the transaction is rolled back."""
        self.effects.append(effect)


class Database:
    """The door to Postgres. Does not know any table."""

    def __init__(self, url: str, pool_size: int = 10) -> None:
        self.engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=30,
            pool_pre_ping=True,
            hide_parameters=True,  # values never reach a log or an error
            connect_args={"connect_timeout": 5},
        )

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
