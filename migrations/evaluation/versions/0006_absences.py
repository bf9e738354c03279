"""Predictions that will never come."""

import sqlalchemy as sa
from alembic import op

revision = "evaluation_0006"
down_revision = "evaluation_0005"
branch_labels = None
depends_on = None

SCHEMA = "evaluation"


def upgrade() -> None:
    op.create_table(
        "absences",
        sa.Column("plan", sa.Uuid(), sa.ForeignKey("evaluation.plans.id"), primary_key=True),
        sa.Column("arm", sa.String(), primary_key=True),
        sa.Column("seed", sa.BigInteger(), primary_key=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("absences", schema=SCHEMA)
