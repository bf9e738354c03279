"""Resources of which an object was found missing or altered."""

import sqlalchemy as sa
from alembic import op

revision = "jobs_0005"
down_revision = "jobs_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "resources",
        sa.Column("damaged_at", sa.DateTime(timezone=True), nullable=True),
        schema="jobs",
    )


def downgrade() -> None:
    op.drop_column("resources", "damaged_at", schema="jobs")
