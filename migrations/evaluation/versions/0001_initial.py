"""Plans, predictions, evaluations and their results. What was computed is never changed."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "evaluation_0001"
down_revision = None
branch_labels = None
depends_on = None

NOW = sa.text("now()")
TIME = sa.DateTime(timezone=True)
SCHEMA = "evaluation"


def _text(*names: str) -> list[sa.Column]:
    return [sa.Column(name, sa.String(), nullable=False) for name in names]


def _number(*names: str) -> list[sa.Column]:
    return [sa.Column(name, sa.Float(), nullable=True) for name in names]


def _whole(*names: str) -> list[sa.Column]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _id(*names: str) -> list[sa.Column]:
    return [sa.Column(name, sa.Uuid(), nullable=False) for name in names]


def _created() -> sa.Column:
    return sa.Column("created_at", TIME, server_default=NOW, nullable=False)


def _of(table: str) -> sa.Column:
    name = table.removesuffix("s")
    return sa.Column(name, sa.Uuid(), sa.ForeignKey(f"{SCHEMA}.{table}.id"), nullable=False)


def _serial() -> sa.Column:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True)


def _within(low: int, high: int, *columns: str) -> list[sa.CheckConstraint]:
    return [
        sa.CheckConstraint(f"{column} BETWEEN {low} AND {high}", name=f"{column}_range")
        for column in columns
    ]


def upgrade() -> None:
    op.create_table(
        "plans",
        sa.Column("id", sa.Uuid(), primary_key=True),
        *_id("project", "owner", "experiment"),
        sa.Column("content", JSONB(), nullable=False),
        *_text("digest"),
        sa.Column("job", sa.Uuid(), nullable=True),
        _created(),
        sa.UniqueConstraint("project", "experiment"),
        schema=SCHEMA,
    )
    op.create_table(
        "predictions",
        sa.Column("id", sa.Uuid(), primary_key=True),
        _of("plans"),
        *_id("project", "owner"),
        *_text("test", "arm"),
        *_whole("seed"),
        *_text("digest", "key", "sha256"),
        sa.Column("fingerprints", JSONB(), nullable=False),
        *_whole("images", "patients"),
        _created(),
        sa.UniqueConstraint("plan", "test", "arm", "seed"),
        schema=SCHEMA,
    )
    op.create_table(
        "evaluations",
        sa.Column("id", sa.Uuid(), primary_key=True),
        _of("plans"),
        *_id("project", "experiment", "job"),
        *_whole("version"),
        *_text("method"),
        sa.Column("versions", JSONB(), nullable=False),
        *_text("inputs_digest", "report_key", "report_sha256"),
        _created(),
        sa.UniqueConstraint("plan", "version"),
        schema=SCHEMA,
    )
    op.create_table(
        "results",
        _serial(),
        _of("evaluations"),
        *_id("experiment"),
        *_text("arm", "test", "label"),
        sa.Column("group", sa.String(), nullable=True),
        *_whole("images"),
        sa.Column("positives", sa.BigInteger(), nullable=True),
        *_whole("patients", "seeds"),
        *_number("auroc", "low", "high"),
        sa.Column("reference", sa.String(), nullable=True),
        *_number("difference", "difference_low", "difference_high", "p", "p_holm", "dof"),
        sa.Column("flags", sa.ARRAY(sa.String()), nullable=False),
        *_within(0, 1, "auroc", "low", "high", "p", "p_holm"),
        *_within(-1, 1, "difference", "difference_low", "difference_high"),
        schema=SCHEMA,
    )
    op.create_index("results_of_evaluation", "results", ["evaluation", "id"], schema=SCHEMA)
    op.create_table(
        "comparisons",
        _serial(),
        _of("evaluations"),
        *_id("experiment"),
        *_text("test", "primary", "reference"),
        *_number("difference", "low", "high", "p", "p_holm", "dof"),
        sa.Column("margin", sa.Float(), nullable=False),
        *_text("verdict"),
        *_whole("seeds"),
        sa.Column("flags", sa.ARRAY(sa.String()), nullable=False),
        *_within(-1, 1, "difference", "low", "high"),
        *_within(0, 1, "p", "p_holm"),
        schema=SCHEMA,
    )
    op.create_index("comparisons_of_evaluation", "comparisons", ["evaluation", "id"], schema=SCHEMA)
    op.execute("""
        CREATE FUNCTION evaluation.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'rows of evaluation.% are never changed', TG_TABLE_NAME;
        END $$
    """)
    for table in ("predictions", "evaluations", "results", "comparisons"):
        op.execute(
            f"CREATE TRIGGER never_changed BEFORE UPDATE ON evaluation.{table}"
            " FOR EACH ROW EXECUTE FUNCTION evaluation.refuse_change()"
        )
    op.execute("""
        CREATE FUNCTION evaluation.keep_plan() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF (OLD.content, OLD.digest, OLD.experiment, OLD.project)
               IS DISTINCT FROM (NEW.content, NEW.digest, NEW.experiment, NEW.project) THEN
                RAISE EXCEPTION 'a registered plan is never changed';
            END IF;
            RETURN NEW;
        END $$
    """)
    op.execute(
        "CREATE TRIGGER never_changed BEFORE UPDATE ON evaluation.plans"
        " FOR EACH ROW EXECUTE FUNCTION evaluation.keep_plan()"
    )


def downgrade() -> None:
    for table in ("comparisons", "results", "evaluations", "predictions", "plans"):
        op.drop_table(table, schema=SCHEMA)
    for function in ("keep_plan", "refuse_change"):
        op.execute(f"DROP FUNCTION evaluation.{function}()")
