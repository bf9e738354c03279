"""Screening of cohorts: what an image is nearest to, what is flagged, and each generator's limit."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "generation_0013"
down_revision = "generation_0012"
branch_labels = None
depends_on = None

SCHEMA = "generation"


def upgrade() -> None:
    op.add_column("generations", sa.Column("screening", JSONB()), schema=SCHEMA)
    op.add_column("generations", sa.Column("screening_job", sa.Uuid()), schema=SCHEMA)
    op.add_column("images", sa.Column("likeness", sa.Float()), schema=SCHEMA)
    op.add_column("images", sa.Column("nearest", sa.String()), schema=SCHEMA)
    op.add_column(
        "images",
        sa.Column("flagged", sa.Boolean(), server_default=sa.false(), nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "calibrations",
        sa.Column(
            "generator", sa.Uuid(), sa.ForeignKey("generation.generators.id"), primary_key=True
        ),
        sa.Column("calibration", JSONB(), nullable=False),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("calibrations", schema=SCHEMA)
    for column in ("flagged", "nearest", "likeness"):
        op.drop_column("images", column, schema=SCHEMA)
    for column in ("screening_job", "screening"):
        op.drop_column("generations", column, schema=SCHEMA)
