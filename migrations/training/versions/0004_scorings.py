"""Data scored by classifiers, and classifiers as ONNX models."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "training_0004"
down_revision = "training_0003"
branch_labels = None
depends_on = None

SCHEMA = "training"


def upgrade() -> None:
    op.create_table(
        "scorings",
        sa.Column("id", sa.Uuid(), primary_key=True),
        *[sa.Column(n, sa.Uuid(), nullable=False) for n in ("project", "owner", "job")],
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("classifier", sa.Uuid(), nullable=False),
        sa.Column("labels", sa.ARRAY(sa.String()), nullable=False),
        sa.Column("request", JSONB(), nullable=False),
        sa.Column("manifest", sa.String(), nullable=True),
        sa.Column("images", sa.Integer(), nullable=True),
        sa.Column("leakage", sa.ARRAY(sa.String()), nullable=True),
        sa.Column("predictions", JSONB(), nullable=True),
        sa.Column("evaluation", sa.Uuid(), nullable=True),
        sa.Column("not_evaluated", sa.String(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        schema=SCHEMA,
    )
    op.create_index("scorings_of_project", "scorings", ["project", "id"], schema=SCHEMA)
    op.create_table(
        "onnx_models",
        sa.Column(
            "classifier", sa.Uuid(), sa.ForeignKey("training.classifiers.id"), primary_key=True
        ),
        sa.Column("job", sa.Uuid(), nullable=False),
        sa.Column("file", JSONB(), nullable=True),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_table("onnx_models", schema=SCHEMA)
    op.drop_table("scorings", schema=SCHEMA)
