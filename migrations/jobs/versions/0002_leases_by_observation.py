"""Beats instead of wall-clock leases, attempts, decayed usage, shares; stricter guards."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "jobs_0002"
down_revision = "jobs_0001"
branch_labels = None
depends_on = None

NOW = sa.text("now()")
TIME = sa.DateTime(timezone=True)

OUTCOMES = "outcome IN ('done', 'released', 'crashed', 'lost', 'failed', 'cancelled')"

# Half of what somebody used is forgotten in a day. A clock set back decays nothing; beyond sixty
# half-lives nothing is left that a double could hold.
DECAYED = """
CREATE FUNCTION jobs.decayed(seconds double precision, as_of timestamptz)
RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT seconds * power(
        0.5::double precision,
        least(greatest(extract(epoch FROM now() - as_of)::double precision / 86400, 0), 60)
    )
$$;
"""

GUARDS = """
CREATE OR REPLACE FUNCTION jobs.guard_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state NOT IN ('blocked', 'queued') THEN
            RAISE EXCEPTION 'a job begins blocked or queued, not %', NEW.state;
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.id <> OLD.id OR NEW.service <> OLD.service OR NEW.kind <> OLD.kind
       OR NEW.queue <> OLD.queue OR NEW.owner <> OLD.owner OR NEW.project <> OLD.project
       OR NEW.resource <> OLD.resource OR NEW.inputs <> OLD.inputs
       OR NEW.created_at <> OLD.created_at THEN
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

DROP TRIGGER guard_job ON jobs.jobs;
CREATE TRIGGER guard_job BEFORE INSERT OR UPDATE ON jobs.jobs
    FOR EACH ROW EXECUTE FUNCTION jobs.guard_job();

CREATE OR REPLACE FUNCTION jobs.guard_slice() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'queued' THEN
            RAISE EXCEPTION 'a slice begins queued, not %', NEW.state;
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.state IN ('done', 'failed', 'cancelled') THEN
        RAISE EXCEPTION 'slice % has ended (%) and cannot be changed', OLD.id, OLD.state;
    END IF;
    IF NEW.job <> OLD.job OR NEW.ordinal <> OLD.ordinal OR NEW.payload <> OLD.payload THEN
        RAISE EXCEPTION 'what a slice is cannot be changed';
    END IF;
    IF NEW.state <> OLD.state AND NOT (
        (OLD.state = 'queued' AND NEW.state IN ('running', 'cancelled'))
        OR (OLD.state = 'running' AND NEW.state IN ('queued', 'done', 'failed', 'quarantined', 'cancelled'))
        OR (OLD.state = 'quarantined' AND NEW.state = 'queued')
    ) THEN
        RAISE EXCEPTION 'a slice cannot go from % to %', OLD.state, NEW.state;
    END IF;
    RETURN NEW;
END $$;

DROP TRIGGER guard_slice ON jobs.slices;
CREATE TRIGGER guard_slice BEFORE INSERT OR UPDATE ON jobs.slices
    FOR EACH ROW EXECUTE FUNCTION jobs.guard_slice();
"""


def upgrade() -> None:
    op.drop_index("slices_running", "slices", schema="jobs")
    op.drop_index("slices_queued", "slices", schema="jobs")
    op.drop_column("slices", "leased_until", schema="jobs")
    op.drop_column("slices", "worker", schema="jobs")
    op.add_column(
        "slices",
        sa.Column("beats", sa.Integer(), server_default="0", nullable=False),
        schema="jobs",
    )
    op.create_index(
        "slices_open",
        "slices",
        ["job", "ordinal"],
        schema="jobs",
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.create_index(
        "slices_running",
        "slices",
        ["job"],
        schema="jobs",
        postgresql_where=sa.text("state = 'running'"),
    )
    op.drop_index("jobs_active", "jobs", schema="jobs")
    op.create_index(
        "jobs_active",
        "jobs",
        ["queue", "owner", sa.text("priority DESC"), "created_at", "id"],
        schema="jobs",
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "attempts",
        sa.Column("slice", sa.BigInteger(), sa.ForeignKey("jobs.slices.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("job", sa.Uuid(), sa.ForeignKey("jobs.jobs.id"), nullable=False),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("about", JSONB(), nullable=False),
        sa.Column("started_at", TIME, server_default=NOW, nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), server_default="", nullable=False),
        sa.CheckConstraint(OUTCOMES, name="attempt_outcome"),
        schema="jobs",
    )
    op.create_index("attempts_of_job", "attempts", ["job", "started_at"], schema="jobs")
    op.create_index("attempts_by_time", "attempts", ["started_at"], schema="jobs")
    op.create_table(
        "shares",
        sa.Column("owner", sa.Uuid(), primary_key=True),
        sa.Column("weight", sa.Float(), server_default="1", nullable=False),
        sa.Column("running_cap", sa.Integer(), nullable=True),
        sa.Column("queued_cap", sa.Integer(), nullable=True),
        sa.CheckConstraint("weight > 0", name="a_weight_is_positive"),
        schema="jobs",
    )
    op.rename_table("usage", "usage_by_hour", schema="jobs")
    op.execute("ALTER TABLE jobs.usage_by_hour RENAME CONSTRAINT usage_pkey TO usage_by_hour_pkey")
    op.create_table(
        "usage",
        sa.Column("owner", sa.Uuid(), primary_key=True),
        sa.Column("queue", sa.String(), primary_key=True),
        sa.Column("seconds", sa.Float(), server_default="0", nullable=False),
        sa.Column("as_of", TIME, server_default=NOW, nullable=False),
        schema="jobs",
    )
    op.execute(DECAYED)
    op.execute(
        "INSERT INTO jobs.usage (owner, queue, seconds) "
        "SELECT owner, queue, sum(jobs.decayed(seconds, hour)) FROM jobs.usage_by_hour "
        "GROUP BY owner, queue"
    )
    op.drop_table("usage_by_hour", schema="jobs")
    op.execute(GUARDS)


def downgrade() -> None:
    msg = "attempts and shares have no place in the schema before"
    raise NotImplementedError(msg)
