"""Uploaded archives, duplicates, why a row was rejected, and where a synthetic image comes from."""

import sqlalchemy as sa
from alembic import op

revision = "datasets_0002"
down_revision = "datasets_0001"
branch_labels = None
depends_on = None

SAMPLES = (
    ("descriptor", sa.LargeBinary()),
    ("seed", sa.BigInteger()),
    ("replica", sa.Integer()),
    ("parent_sample_id", sa.String()),
)


def upgrade() -> None:
    for name, kind in SAMPLES:
        op.add_column("samples", sa.Column(name, kind, nullable=True), schema="datasets")
    op.add_column(
        "rejections",
        sa.Column("code", sa.String(), server_default="row", nullable=False),
        schema="datasets",
    )
    op.create_table(
        "duplicates",
        sa.Column(
            "dataset",
            sa.Uuid(),
            sa.ForeignKey("datasets.datasets.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("sample_id", sa.String(), nullable=False),
        sa.Column("other_sample_id", sa.String(), nullable=False),
        sa.Column("identical", sa.Boolean(), nullable=False),
        sa.Column("distance", sa.SmallInteger(), nullable=False),
        sa.Column("same_patient", sa.Boolean(), nullable=False),
        schema="datasets",
    )
    op.create_table(
        "uploads",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("project", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        schema="datasets",
    )
    op.create_index("uploads_of_project", "uploads", ["project", "id"], schema="datasets")


def downgrade() -> None:
    for table in ("uploads", "duplicates"):
        op.drop_table(table, schema="datasets")
    op.drop_column("rejections", "code", schema="datasets")
    for name, _ in SAMPLES:
        op.drop_column("samples", name, schema="datasets")
