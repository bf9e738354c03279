"""What becomes known of a plan's experiment once its data is there."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "evaluation_0007"
down_revision = "evaluation_0006"
branch_labels = None
depends_on = None

SCHEMA = "evaluation"


def upgrade() -> None:
    op.create_table(
        "particulars",
        sa.Column("plan", sa.Uuid(), sa.ForeignKey("evaluation.plans.id"), primary_key=True),
        sa.Column("content", postgresql.JSONB(none_as_null=True), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("particulars", schema=SCHEMA)
