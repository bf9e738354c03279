"""What image files say of their own making: by image while they are imported, then by dataset."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "datasets_0007"
down_revision = "datasets_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("samples", sa.Column("origin", JSONB()), schema="datasets")
    op.add_column("datasets", sa.Column("origins", JSONB()), schema="datasets")


def downgrade() -> None:
    op.drop_column("datasets", "origins", schema="datasets")
    op.drop_column("samples", "origin", schema="datasets")
