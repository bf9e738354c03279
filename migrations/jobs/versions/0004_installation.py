"""The installation that database and object store belong to, and cancellations under way."""

import sqlalchemy as sa
from alembic import op

revision = "jobs_0004"
down_revision = "jobs_0003"
branch_labels = None
depends_on = None

NOW = sa.text("now()")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "installation",
        sa.Column("one", sa.Boolean(), server_default=sa.true(), primary_key=True),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("rounds", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("paired_at", TIME, nullable=True),
        sa.Column("mismatch", sa.String(), server_default="", nullable=False),
        sa.CheckConstraint("one", name="one_installation"),
        schema="jobs",
    )
    op.create_table(
        "cancellations",
        sa.Column("job", sa.Uuid(), primary_key=True),
        sa.Column("requested_at", TIME, server_default=NOW, nullable=False),
        schema="jobs",
    )


def downgrade() -> None:
    op.drop_table("cancellations", schema="jobs")
    op.drop_table("installation", schema="jobs")
