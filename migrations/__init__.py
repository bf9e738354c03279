"""The database's history: one Alembic section and version table per schema."""
