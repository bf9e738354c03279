"""The pool of connections to the database."""

import pytest
from sqlalchemy import text

from services.kit import db as kit_db
from services.kit.db import Database

PID = text("SELECT pg_backend_pid()")
END = text("SELECT pg_terminate_backend(:pid, 60000)")
"""Waits until it has ended, for a minute."""


@pytest.fixture
def pool(settings, monkeypatch):
    monkeypatch.setattr(kit_db, "QUIET_S", 0.0)
    database = Database(settings.database_url.get_secret_value(), pool_size=1)
    yield database
    database.close()


def ask(database: Database, statement, **values: object) -> int:
    with database.transaction() as tx:
        return tx.session.scalar(statement, values)


def test_a_connection_that_died_in_the_pool_is_not_handed_out(pool, adapters) -> None:
    before = ask(pool, PID)
    assert ask(pool, PID) == before
    assert ask(adapters.db, END, pid=before)
    assert ask(pool, PID) != before
