"""Further imports that own images of a view."""

import sqlalchemy as sa
from alembic import op

revision = "datasets_0009"
down_revision = "datasets_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("joined", sa.ARRAY(sa.Uuid()), nullable=False, server_default="{}")
    op.add_column("datasets", column, schema="datasets")


def downgrade() -> None:
    op.drop_column("datasets", "joined", schema="datasets")
