"""Jobs, slices, events, usage, idempotency keys; triggers that guard every move."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "jobs_0001"
down_revision = None
branch_labels = None
depends_on = None

NOW = sa.text("now()")
TIME = sa.DateTime(timezone=True)

JOB_STATES = (
    "state IN ('blocked', 'queued', 'running', 'succeeded', 'failed', 'cancelled', 'quarantined')"
)
SLICE_STATES = "state IN ('queued', 'running', 'done', 'failed', 'quarantined', 'cancelled')"

GUARDS = """
CREATE FUNCTION jobs.guard_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id <> OLD.id OR NEW.service <> OLD.service OR NEW.kind <> OLD.kind
       OR NEW.owner <> OLD.owner OR NEW.project <> OLD.project OR NEW.resource <> OLD.resource
       OR NEW.inputs <> OLD.inputs OR NEW.created_at <> OLD.created_at THEN
        RAISE EXCEPTION 'what a job is cannot be changed';
    END IF;
    IF OLD.finished_at IS NOT NULL AND NOT (OLD.state = 'quarantined' AND NEW.state = 'queued') THEN
        RAISE EXCEPTION 'job % has ended (%) and cannot be changed', OLD.id, OLD.state;
    END IF;
    IF NEW.state <> OLD.state AND NOT (
        (OLD.state = 'blocked' AND NEW.state IN ('queued', 'failed', 'cancelled'))
        OR (OLD.state = 'queued' AND NEW.state IN ('running', 'cancelled'))
        OR (OLD.state = 'running' AND NEW.state IN ('succeeded', 'failed', 'cancelled', 'quarantined'))
        OR (OLD.state = 'quarantined' AND NEW.state = 'queued')
    ) THEN
        RAISE EXCEPTION 'a job cannot go from % to %', OLD.state, NEW.state;
    END IF;
    IF (NEW.state IN ('succeeded', 'failed', 'cancelled', 'quarantined')) <> (NEW.finished_at IS NOT NULL) THEN
        RAISE EXCEPTION 'a job is finished exactly when it has ended';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_job BEFORE UPDATE ON jobs.jobs FOR EACH ROW EXECUTE FUNCTION jobs.guard_job();

CREATE FUNCTION jobs.guard_slice() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.job <> OLD.job OR NEW.ordinal <> OLD.ordinal OR NEW.payload <> OLD.payload THEN
        RAISE EXCEPTION 'what a slice is cannot be changed';
    END IF;
    IF NEW.state <> OLD.state AND NOT (
        (OLD.state = 'queued' AND NEW.state IN ('running', 'quarantined', 'cancelled'))
        OR (OLD.state = 'running' AND NEW.state IN ('queued', 'done', 'failed', 'cancelled'))
        OR (OLD.state = 'quarantined' AND NEW.state = 'queued')
    ) THEN
        RAISE EXCEPTION 'a slice cannot go from % to %', OLD.state, NEW.state;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER guard_slice BEFORE UPDATE ON jobs.slices FOR EACH ROW EXECUTE FUNCTION jobs.guard_slice();
"""


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("queue", sa.String(), nullable=False),
        sa.Column("owner", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Uuid(), nullable=False),
        sa.Column("resource", sa.Uuid(), nullable=False),
        sa.Column("inputs", JSONB(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("done", sa.Float(), server_default="0", nullable=False),
        sa.Column("total", sa.Float(), server_default="0", nullable=False),
        sa.Column("unit", sa.String(), server_default="", nullable=False),
        sa.Column("message", sa.String(), server_default="", nullable=False),
        sa.Column("problem", JSONB(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint(JOB_STATES, name="job_state"),
        schema="jobs",
    )
    op.create_index(
        "jobs_active",
        "jobs",
        ["queue", "state"],
        schema="jobs",
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "waits",
        sa.Column("job", sa.Uuid(), sa.ForeignKey("jobs.jobs.id"), primary_key=True),
        sa.Column("awaited", sa.Uuid(), sa.ForeignKey("jobs.jobs.id"), primary_key=True),
        schema="jobs",
    )
    op.create_index("waits_awaited", "waits", ["awaited"], schema="jobs")
    op.create_table(
        "slices",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("job", sa.Uuid(), sa.ForeignKey("jobs.jobs.id"), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), server_default="queued", nullable=False),
        sa.Column("payload", JSONB(), nullable=False),
        sa.Column("lease", sa.Uuid(), nullable=True),
        sa.Column("leased_until", TIME, nullable=True),
        sa.Column("worker", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crashes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", TIME, server_default=NOW, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.CheckConstraint(SLICE_STATES, name="slice_state"),
        sa.CheckConstraint(
            "(state = 'running') = (lease IS NOT NULL)", name="a_lease_means_running"
        ),
        schema="jobs",
    )
    op.create_index(
        "slices_queued",
        "slices",
        ["job", "ordinal"],
        schema="jobs",
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "slices_running",
        "slices",
        ["leased_until"],
        schema="jobs",
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_index("slices_of_job", "slices", ["job", "ordinal"], unique=True, schema="jobs")
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("job", sa.Uuid(), sa.ForeignKey("jobs.jobs.id"), nullable=False),
        sa.Column("at", TIME, server_default=NOW, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("done", sa.Float(), nullable=False),
        sa.Column("total", sa.Float(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        schema="jobs",
    )
    op.create_index("events_of_job", "events", ["job", "id"], schema="jobs")
    op.create_table(
        "usage",
        sa.Column("owner", sa.Uuid(), primary_key=True),
        sa.Column("queue", sa.String(), primary_key=True),
        sa.Column("hour", TIME, primary_key=True),
        sa.Column("seconds", sa.Float(), server_default="0", nullable=False),
        schema="jobs",
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("project", sa.Uuid(), primary_key=True),
        sa.Column("person", sa.Uuid(), primary_key=True),
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("body_digest", sa.String(), nullable=False),
        sa.Column("resource", sa.Uuid(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        schema="jobs",
    )
    op.execute(GUARDS)


def downgrade() -> None:
    for table in ("idempotency_keys", "usage", "events", "slices", "waits", "jobs"):
        op.drop_table(table, schema="jobs")
    op.execute("DROP FUNCTION jobs.guard_slice(); DROP FUNCTION jobs.guard_job();")
