"""How many steps a run took, and whose weights made its predictions."""

import sqlalchemy as sa
from alembic import op

revision = "evaluation_0008"
down_revision = "evaluation_0007"
branch_labels = None
depends_on = None

SCHEMA = "evaluation"


def upgrade() -> None:
    for name in ("steps", "best_step"):
        op.add_column("predictions", sa.Column(name, sa.BigInteger()), schema=SCHEMA)


def downgrade() -> None:
    for name in ("steps", "best_step"):
        op.drop_column("predictions", name, schema=SCHEMA)
