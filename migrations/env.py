"""Alembic's entry: the section's name is the schema, and the service whose models it follows."""

from importlib import import_module

from alembic import context
from sqlalchemy import create_engine, text

from services.kit.settings import DatabaseSettings

config = context.config
schema = config.config_ini_section
models = import_module(
    "services.kit.jobs.models" if schema == "jobs" else f"services.{schema}.models"
)


def _ours(name: str | None, kind: str, _parents: object) -> bool:
    return name == schema if kind == "schema" else True


def _migrate() -> None:
    url = config.attributes.get("url") or DatabaseSettings.read().database_url.get_secret_value()
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
        with engine.connect() as connection:
            context.configure(
                connection=connection,
                target_metadata=models.Base.metadata,
                version_table_schema=schema,
                include_schemas=True,
                include_name=_ours,
                compare_server_default=True,
            )
            with context.begin_transaction():
                context.run_migrations()
    finally:
        engine.dispose()


_migrate()
