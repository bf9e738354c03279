"""Datasets, their samples and rejected rows, and manifests."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "datasets_0001"
down_revision = None
branch_labels = None
depends_on = None

NOW = sa.text("now()")
TIME = sa.DateTime(timezone=True)


def _of_dataset(*, primary_key: bool) -> sa.Column[object]:
    parent = sa.ForeignKey("datasets.datasets.id", ondelete="CASCADE")
    return sa.Column("dataset", sa.Uuid(), parent, primary_key=primary_key, nullable=False)


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("project", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("job", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("request", JSONB(), nullable=False),
        sa.Column("notes", JSONB(), server_default="[]", nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        schema="datasets",
    )
    op.create_index("datasets_of_project", "datasets", ["project", "id"], schema="datasets")
    op.create_table(
        "samples",
        _of_dataset(primary_key=True),
        sa.Column("ordinal", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(), nullable=True),
        sa.Column("bucket", sa.SmallInteger(), nullable=True),
        sa.Column("sample_id", sa.String(), nullable=False),
        sa.Column("patient_id", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=True),
        sa.Column("fold", sa.SmallInteger(), nullable=True),
        sa.Column("age", sa.SmallInteger(), nullable=True),
        sa.Column("sex", sa.String(), nullable=True),
        sa.Column("race", sa.String(), nullable=True),
        sa.Column("view", sa.String(), nullable=True),
        sa.Column("labels", JSONB(), nullable=False),
        sa.Column("image_key", sa.String(), nullable=True),
        sa.Column("image_sha256", sa.String(), nullable=True),
        sa.Column("pixel_sha256", sa.String(), nullable=True),
        schema="datasets",
    )
    op.create_index(
        "samples_by_name", "samples", ["dataset", "sample_id"], unique=True, schema="datasets"
    )
    op.create_table(
        "rejections",
        _of_dataset(primary_key=True),
        sa.Column("line", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("reason", sa.String(), nullable=False),
        schema="datasets",
    )
    op.create_table(
        "manifests",
        sa.Column("id", sa.Uuid(), primary_key=True),
        _of_dataset(primary_key=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("parquet_sha256", sa.String(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("patients", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        schema="datasets",
    )
    op.create_index("manifests_of_dataset", "manifests", ["dataset", "id"], schema="datasets")


def downgrade() -> None:
    for table in ("manifests", "rejections", "samples", "datasets"):
        op.drop_table(table, schema="datasets")
