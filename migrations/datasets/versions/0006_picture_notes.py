"""What was odd about the file of a picture, until the import has counted it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "datasets_0006"
down_revision = "datasets_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "samples",
        sa.Column("picture_notes", JSONB(), server_default="[]", nullable=False),
        schema="datasets",
    )


def downgrade() -> None:
    op.drop_column("samples", "picture_notes", schema="datasets")
