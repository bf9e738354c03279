"""How good a cohort is: what was asked, and what was measured."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "evaluation_0003"
down_revision = "evaluation_0002"
branch_labels = None
depends_on = None

SCHEMA = "evaluation"


def upgrade() -> None:
    op.create_table(
        "qualities",
        sa.Column("id", sa.Uuid(), primary_key=True),
        *[sa.Column(n, sa.Uuid(), nullable=False) for n in ("project", "owner", "job")],
        sa.Column("request", JSONB(), nullable=False),
        sa.Column("result", JSONB(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        schema=SCHEMA,
    )
    op.create_index("qualities_of_project", "qualities", ["project", "id"], schema=SCHEMA)


def downgrade() -> None:
    op.drop_table("qualities", schema=SCHEMA)
