"""Ethnicity of a sample's patient."""

import sqlalchemy as sa
from alembic import op

revision = "datasets_0004"
down_revision = "datasets_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("samples", sa.Column("ethnicity", sa.String()), schema="datasets")


def downgrade() -> None:
    op.drop_column("samples", "ethnicity", schema="datasets")
