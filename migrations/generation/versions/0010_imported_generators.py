"""Generators that were imported: no preset and no dataset of their own, but an origin."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "generation_0010"
down_revision = "generation_0002"
branch_labels = None
depends_on = None

SCHEMA = "generation"
NULLABLE = ("dataset", "preset", "steps", "seed")


def upgrade() -> None:
    for column in NULLABLE:
        op.alter_column("generators", column, nullable=True, schema=SCHEMA)
    op.add_column("generators", sa.Column("size_px", sa.Integer()), schema=SCHEMA)
    op.add_column("generators", sa.Column("encoder", sa.String()), schema=SCHEMA)
    op.add_column("generators", sa.Column("origin", JSONB()), schema=SCHEMA)
    op.add_column(
        "generators",
        sa.Column("imported", sa.Boolean(), server_default=sa.false(), nullable=False),
        schema=SCHEMA,
    )
    op.alter_column("generators", "imported", server_default=None, schema=SCHEMA)
    op.execute(
        "UPDATE generation.generators SET encoder = 'masked/1', "
        "size_px = CASE preset WHEN 'tiny-32' THEN 32 ELSE 64 END"
    )


def downgrade() -> None:
    op.execute("DELETE FROM generation.generators WHERE imported")
    for column in ("imported", "origin", "encoder", "size_px"):
        op.drop_column("generators", column, schema=SCHEMA)
    for column in NULLABLE:
        op.alter_column("generators", column, nullable=False, schema=SCHEMA)
