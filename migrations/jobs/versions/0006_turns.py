"""Short jobs, the seconds that a job has run, and the workers that are up."""

import sqlalchemy as sa
from alembic import op

revision = "jobs_0006"
down_revision = "jobs_0005"
branch_labels = None
depends_on = None

RAN = """
ALTER TABLE jobs.jobs DISABLE TRIGGER guard_job;
UPDATE jobs.jobs j SET seconds = ran.seconds
FROM (SELECT job, sum(greatest(extract(epoch FROM ended_at - started_at), 0)) AS seconds
      FROM jobs.attempts WHERE outcome IN ('done', 'released') GROUP BY job) ran
WHERE j.id = ran.job;
ALTER TABLE jobs.jobs ENABLE TRIGGER guard_job;
"""
"""Also of jobs that have ended: how long the next ones take is learnt from them."""
ACTIVE = sa.text("finished_at IS NULL")


def upgrade() -> None:
    op.add_column(
        "jobs",
        sa.Column("short", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        schema="jobs",
    )
    op.add_column(
        "jobs", sa.Column("seconds", sa.Float(), server_default="0", nullable=False), schema="jobs"
    )
    op.add_column(
        "usage",
        sa.Column("short_seconds", sa.Float(), server_default="0", nullable=False),
        schema="jobs",
    )
    op.execute(RAN)
    op.drop_index("jobs_active", "jobs", schema="jobs")
    op.create_index(
        "jobs_active",
        "jobs",
        ["queue", "owner", sa.text("priority DESC"), sa.text("short DESC"), "created_at", "id"],
        schema="jobs",
        postgresql_where=ACTIVE,
    )
    op.create_index(
        "jobs_succeeded",
        "jobs",
        ["kind", sa.text("finished_at DESC")],
        schema="jobs",
        postgresql_where=sa.text("state = 'succeeded'"),
    )
    op.create_table(
        "workers",
        sa.Column("worker", sa.String(), primary_key=True),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("device", sa.String(), server_default="", nullable=False),
        sa.Column("process", sa.String(), server_default="", nullable=False),
        sa.Column(
            "seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        schema="jobs",
    )


def downgrade() -> None:
    op.drop_table("workers", schema="jobs")
    op.drop_index("jobs_succeeded", "jobs", schema="jobs")
    op.drop_index("jobs_active", "jobs", schema="jobs")
    op.create_index(
        "jobs_active",
        "jobs",
        ["queue", "owner", sa.text("priority DESC"), "created_at", "id"],
        schema="jobs",
        postgresql_where=ACTIVE,
    )
    op.drop_column("usage", "short_seconds", schema="jobs")
    op.drop_column("jobs", "seconds", schema="jobs")
    op.drop_column("jobs", "short", schema="jobs")
