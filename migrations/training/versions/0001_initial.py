"""Experiments, their runs, and the classifiers that come of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "training_0001"
down_revision = None
branch_labels = None
depends_on = None

NOW = sa.text("now()")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "experiments",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("project", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("job", sa.Uuid(), nullable=False),
        sa.Column("plan", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("request", JSONB(), nullable=False),
        sa.Column("arms", JSONB(), nullable=False),
        sa.Column("blueprint", JSONB(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        schema="training",
    )
    op.create_index("experiments_of_project", "experiments", ["project", "id"], schema="training")
    op.create_table(
        "runs",
        sa.Column(
            "experiment", sa.Uuid(), sa.ForeignKey("training.experiments.id"), primary_key=True
        ),
        sa.Column("arm", sa.String(), primary_key=True),
        sa.Column("seed", sa.BigInteger(), primary_key=True),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), server_default="0", nullable=False),
        sa.Column("best_step", sa.Integer(), nullable=True),
        sa.Column("validation_auroc", sa.Float(), nullable=True),
        sa.Column("checkpoints", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("classifier", sa.Uuid(), nullable=True),
        sa.Column("predictions", JSONB(), nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        schema="training",
    )
    op.create_table(
        "classifiers",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("project", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column(
            "experiment", sa.Uuid(), sa.ForeignKey("training.experiments.id"), nullable=False
        ),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("labels", sa.ARRAY(sa.String()), nullable=False),
        sa.Column("size_px", sa.Integer(), nullable=False),
        sa.Column("best_step", sa.Integer(), nullable=False),
        sa.Column("validation_auroc", sa.Float(), nullable=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("files", JSONB(), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        schema="training",
    )
    op.create_index("classifiers_of_experiment", "classifiers", ["experiment"], schema="training")


def downgrade() -> None:
    for table in ("classifiers", "runs", "experiments"):
        op.drop_table(table, schema="training")
