"""How many steps a run took and whose weights were kept; which labels a mean is over."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "evaluation_0008"
down_revision = "evaluation_0007"
branch_labels = None
depends_on = None

SCHEMA = "evaluation"


def upgrade() -> None:
    for name in ("steps", "best_step"):
        op.add_column("predictions", sa.Column(name, sa.BigInteger()), schema=SCHEMA)

    op.add_column(
        "comparisons",
        sa.Column("averaged", sa.ARRAY(sa.String()), nullable=False, server_default="{}"),
        schema=SCHEMA,
    )
    op.add_column(
        "comparisons",
        sa.Column("left_out", postgresql.JSONB(), nullable=False, server_default="{}"),
        schema=SCHEMA,
    )
    for name in ("averaged", "left_out"):
        op.alter_column("comparisons", name, server_default=None, schema=SCHEMA)


def downgrade() -> None:
    for name in ("averaged", "left_out"):
        op.drop_column("comparisons", name, schema=SCHEMA)
    for name in ("steps", "best_step"):
        op.drop_column("predictions", name, schema=SCHEMA)
