"""Whom a withdrawal found, here and in other projects, and the pixels that it took away."""

import sqlalchemy as sa
from alembic import op

revision = "datasets_0008"
down_revision = "datasets_0007"
branch_labels = None
depends_on = None

EVERYWHERE = sa.Column("everywhere", sa.Boolean(), nullable=False, server_default=sa.false())
COUNTS = ("found", "elsewhere")


def upgrade() -> None:
    for name in COUNTS:
        column = sa.Column(name, sa.Integer(), nullable=False, server_default="0")
        op.add_column("withdrawals", column, schema="datasets")
    op.add_column("withdrawals", EVERYWHERE, schema="datasets")
    op.create_table(
        "withdrawn_pictures",
        sa.Column("withdrawal", sa.Uuid(), nullable=False),
        sa.Column("pixel_sha256", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["withdrawal"], ["datasets.withdrawals.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("withdrawal", "pixel_sha256"),
        schema="datasets",
    )
    op.create_index("samples_by_patient", "samples", ["patient_id"], schema="datasets")


def downgrade() -> None:
    op.drop_index("samples_by_patient", "samples", schema="datasets")
    op.drop_table("withdrawn_pictures", schema="datasets")
    op.drop_column("withdrawals", "everywhere", schema="datasets")
    for name in COUNTS:
        op.drop_column("withdrawals", name, schema="datasets")
