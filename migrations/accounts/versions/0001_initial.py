"""People, projects, keys, and the one view that other services may read."""

import sqlalchemy as sa
from alembic import op

revision = "accounts_0001"
down_revision = None
branch_labels = None
depends_on = None

NOW = sa.text("now()")
TIME = sa.DateTime(timezone=True)


def _named(table: str) -> None:
    op.create_table(
        table,
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False, unique=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        schema="accounts",
    )


def upgrade() -> None:
    _named("people")
    _named("projects")
    op.create_table(
        "keys",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("hash", sa.String(), nullable=False, unique=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("person", sa.Uuid(), sa.ForeignKey("accounts.people.id"), nullable=False),
        sa.Column("project", sa.Uuid(), sa.ForeignKey("accounts.projects.id"), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.String()), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("revoked_at", TIME, nullable=True),
        schema="accounts",
    )
    op.execute(
        "CREATE VIEW accounts.active_keys AS SELECT hash, person, project, scopes "
        "FROM accounts.keys WHERE revoked_at IS NULL AND expires_at > now()"
    )


def downgrade() -> None:
    op.execute("DROP VIEW accounts.active_keys")
    for table in ("keys", "projects", "people"):
        op.drop_table(table, schema="accounts")
