"""Overlaps of two sets, exports, and whose images a report shows."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "evaluation_0002"
down_revision = "evaluation_0001"
branch_labels = None
depends_on = None

SCHEMA = "evaluation"


def _of_a_job() -> list[sa.Column]:
    """What every piece of asked work says: whose it is, its job, what was asked, and when."""
    ids = [sa.Column(n, sa.Uuid(), nullable=False) for n in ("project", "owner", "job")]
    created = sa.Column(
        "created_at",
        sa.DateTime(timezone=True),
        server_default=sa.text("now()"),
        nullable=False,
    )
    key = sa.Column("id", sa.Uuid(), primary_key=True)
    return [key, *ids, sa.Column("request", JSONB(), nullable=False), created]


def upgrade() -> None:
    shown = sa.Column("shown", JSONB(), server_default="{}", nullable=False)
    op.add_column("evaluations", shown, schema=SCHEMA)
    op.create_table(
        "redactions",
        sa.Column(
            "evaluation",
            sa.Uuid(),
            sa.ForeignKey("evaluation.evaluations.id"),
            primary_key=True,
        ),
        sa.Column("report_key", sa.String(), nullable=False),
        sa.Column("report_sha256", sa.String(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        schema=SCHEMA,
    )
    op.create_table(
        "overlaps", *_of_a_job(), sa.Column("result", JSONB(), nullable=True), schema=SCHEMA
    )
    op.create_table(
        "exports",
        *_of_a_job(),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("manifest", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("licence", JSONB(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        schema=SCHEMA,
    )
    for table in ("overlaps", "exports"):
        op.create_index(f"{table}_of_project", table, ["project", "id"], schema=SCHEMA)


def downgrade() -> None:
    for table in ("exports", "overlaps", "redactions"):
        op.drop_table(table, schema=SCHEMA)
    op.drop_column("evaluations", "shown", schema=SCHEMA)
