"""Generators with their checkpoints and losses; generations with their images."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "generation_0001"
down_revision = None
branch_labels = None
depends_on = None

NOW = sa.text("now()")
TIME = sa.DateTime(timezone=True)
SCHEMA = "generation"


def upgrade() -> None:
    op.create_table(
        "generators",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("project", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("job", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("dataset", sa.Uuid(), nullable=False),
        sa.Column("preset", sa.String(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("manifest", sa.Uuid()),
        sa.Column("manifest_digest", sa.String()),
        sa.Column("images", sa.Integer()),
        sa.Column("patients", sa.Integer()),
        sa.Column("site", sa.String()),
        sa.Column("terms", sa.String()),
        sa.Column("phantom", sa.Boolean()),
        sa.Column("population_key", sa.String()),
        sa.Column("population_sha256", sa.String()),
        sa.Column("weights_key", sa.String()),
        sa.Column("weights_sha256", sa.String()),
        schema=SCHEMA,
    )
    op.create_index("generators_of_project", "generators", ["project", "id"], schema=SCHEMA)
    op.create_table(
        "checkpoints",
        sa.Column(
            "generator", sa.Uuid(), sa.ForeignKey("generation.generators.id"), primary_key=True
        ),
        sa.Column("step", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("files", JSONB(), nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "losses",
        sa.Column(
            "generator", sa.Uuid(), sa.ForeignKey("generation.generators.id"), primary_key=True
        ),
        sa.Column("step", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("loss", sa.Float(), nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "generations",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("project", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("job", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column(
            "generator", sa.Uuid(), sa.ForeignKey("generation.generators.id"), nullable=False
        ),
        sa.Column("request", JSONB(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("environment", JSONB()),
        sa.Column("manifest", sa.Uuid()),
        sa.Column("manifest_digest", sa.String()),
        sa.Column("manifest_key", sa.String()),
        sa.Column("manifest_sha256", sa.String()),
        schema=SCHEMA,
    )
    op.create_index("generations_of_project", "generations", ["project", "id"], schema=SCHEMA)
    op.create_table(
        "images",
        sa.Column(
            "generation",
            sa.Uuid(),
            sa.ForeignKey("generation.generations.id"),
            primary_key=True,
        ),
        sa.Column("index", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("condition", JSONB(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("replica", sa.Integer(), nullable=False),
        sa.Column("parent_sample_id", sa.String()),
        sa.Column("environment", JSONB()),
        sa.Column("image_key", sa.String()),
        sa.Column("image_sha256", sa.String()),
        sa.Column("pixel_sha256", sa.String()),
        schema=SCHEMA,
    )


def downgrade() -> None:
    for table in ("images", "generations", "losses", "checkpoints", "generators"):
        op.drop_table(table, schema=SCHEMA)
