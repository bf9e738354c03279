"""Models and history agree, and a model without a migration is noticed."""

import pytest
from alembic.util.exc import CommandError
from sqlalchemy import Column, Integer

from migrations.sections import check, sections
from services.accounts.models import Person


def url(settings) -> str:
    return settings.database_url.get_secret_value()


def test_every_schema_is_as_its_models_say(adapters, settings) -> None:
    assert sections() == ["jobs", "accounts", "datasets", "generation", "training", "evaluation"]
    check(url(settings))


def test_a_column_without_a_migration_is_noticed(adapters, settings) -> None:
    table = Person.metadata.tables["accounts.people"]
    table.append_column(column := Column("shoe_size", Integer))
    try:
        with pytest.raises(CommandError, match="shoe_size"):
            check(url(settings))
    finally:
        table._columns.remove(column)
