"""Why a dataset may not be what was wanted."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "datasets_0005"
down_revision = "datasets_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("warnings", JSONB(), nullable=False, server_default="[]")
    op.add_column("datasets", column, schema="datasets")


def downgrade() -> None:
    op.drop_column("datasets", "warnings", schema="datasets")
