"""Views over datasets, licences, and withdrawals."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "datasets_0003"
down_revision = "datasets_0002"
branch_labels = None
depends_on = None

NOW = sa.text("now()")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    for name in ("base", "root"):
        parent = sa.ForeignKey("datasets.datasets.id", ondelete="CASCADE")
        op.add_column("datasets", sa.Column(name, sa.Uuid(), parent), schema="datasets")
        op.create_index(f"ix_datasets_datasets_{name}", "datasets", [name], schema="datasets")
    op.add_column("datasets", sa.Column("licence", JSONB()), schema="datasets")
    op.create_table(
        "withdrawals",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("project", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("job", sa.Uuid(), nullable=False),
        sa.Column("patients", JSONB(), nullable=False),
        sa.Column("samples", JSONB(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("outcome", JSONB(), server_default="[]", nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        schema="datasets",
    )
    op.create_index("withdrawals_of_project", "withdrawals", ["project", "id"], schema="datasets")


def downgrade() -> None:
    op.drop_table("withdrawals", schema="datasets")
    for name in ("licence", "root", "base"):
        op.drop_column("datasets", name, schema="datasets")
