"""What a training does otherwise than its preset, its previews, and how samplers spaced steps."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "generation_0012"
down_revision = "generation_0010"
branch_labels = None
depends_on = None

SCHEMA = "generation"


def upgrade() -> None:
    op.add_column("generators", sa.Column("settings", JSONB()), schema=SCHEMA)
    op.add_column("generators", sa.Column("preview_every", sa.Integer()), schema=SCHEMA)
    op.create_table(
        "previews",
        sa.Column("generator", sa.Uuid(), sa.ForeignKey(f"{SCHEMA}.generators.id"), nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("image_key", sa.String(), nullable=False),
        sa.Column("image_sha256", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("generator", "step"),
        schema=SCHEMA,
    )
    # what was asked for before there was a choice is made again as it was
    op.execute(
        "UPDATE generation.generations SET request = jsonb_set(request, '{sampler,spacing}', "
        """CASE request #>> '{sampler,name}' WHEN 'ddim' THEN '"leading"' ELSE '"trailing"' END"""
        "::jsonb)"
    )


def downgrade() -> None:
    op.execute("UPDATE generation.generations SET request = request #- '{sampler,spacing}'")
    op.drop_table("previews", schema=SCHEMA)
    op.drop_column("generators", "preview_every", schema=SCHEMA)
    op.drop_column("generators", "settings", schema=SCHEMA)
