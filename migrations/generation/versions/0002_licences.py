"""Licences of what generators and cohorts were made of, and which version was mirrored."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "generation_0002"
down_revision = "generation_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("generators", sa.Column("licence", JSONB()), schema="generation")
    op.add_column("generations", sa.Column("mirror_manifest", sa.Uuid()), schema="generation")
    op.add_column("generations", sa.Column("mirror_licence", JSONB()), schema="generation")


def downgrade() -> None:
    op.drop_column("generations", "mirror_licence", schema="generation")
    op.drop_column("generations", "mirror_manifest", schema="generation")
    op.drop_column("generators", "licence", schema="generation")
