"""Resources, what they were made from, and the jobs that delete them."""

import sqlalchemy as sa
from alembic import op

revision = "jobs_0003"
down_revision = "jobs_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("jobs_of_resource", "jobs", ["resource"], schema="jobs")
    op.create_table(
        "resources",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("project", sa.Uuid(), nullable=False),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("deletion", sa.Uuid(), sa.ForeignKey("jobs.jobs.id"), nullable=True),
        schema="jobs",
    )
    op.create_table(
        "uses",
        sa.Column("resource", sa.Uuid(), sa.ForeignKey("jobs.resources.id"), primary_key=True),
        sa.Column("uses", sa.Uuid(), primary_key=True),
        schema="jobs",
    )
    op.create_index("uses_of", "uses", ["uses"], schema="jobs")


def downgrade() -> None:
    op.drop_table("uses", schema="jobs")
    op.drop_table("resources", schema="jobs")
    op.drop_index("jobs_of_resource", "jobs", schema="jobs")
