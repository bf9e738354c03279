"""Groups, further metrics and questions; seeds and test sets apart; what is found stays."""

import sqlalchemy as sa
from alembic import op

revision = "evaluation_0004"
down_revision = "evaluation_0003"
branch_labels = None
depends_on = None

SCHEMA = "evaluation"
PARTS = ("test_sd", "seed_sd")
RECORDS = ("evaluations", "results", "comparisons", "answers", "metrics")


def _text(*names: str, nullable: bool = False) -> list[sa.Column]:
    return [sa.Column(name, sa.String(), nullable=nullable) for name in names]


def _number(*names: str) -> list[sa.Column]:
    return [sa.Column(name, sa.Float(), nullable=True) for name in names]


def _whole(*names: str) -> list[sa.Column]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _of_an_evaluation() -> list[sa.Column]:
    return [
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column(
            "evaluation", sa.Uuid(), sa.ForeignKey(f"{SCHEMA}.evaluations.id"), nullable=False
        ),
        sa.Column("experiment", sa.Uuid(), nullable=False),
    ]


def _flags() -> sa.Column:
    return sa.Column("flags", sa.ARRAY(sa.String()), nullable=False)


def _within(low: int, high: int, *columns: str) -> list[sa.CheckConstraint]:
    return [
        sa.CheckConstraint(f"{column} BETWEEN {low} AND {high}", name=f"{column}_range")
        for column in columns
    ]


def _finite(*columns: str) -> list[sa.CheckConstraint]:
    return [
        sa.CheckConstraint(
            f"{column} > '-Infinity'::float8 AND {column} < 'Infinity'::float8",
            name=f"{column}_finite",
        )
        for column in columns
    ]


def upgrade() -> None:
    for table in ("results", "comparisons"):
        for column in _number(*PARTS):
            op.add_column(table, column, schema=SCHEMA)
    op.create_table(
        "answers",
        *_of_an_evaluation(),
        *_text("test", "arm", "reference", "kind"),
        *_number("margin", "difference", "low", "high"),
        sa.Column("level", sa.Float(), nullable=False),
        *_number("p", "p_holm", "dof", *PARTS),
        *_text("verdict"),
        *_whole("seeds"),
        _flags(),
        *_within(-1, 1, "difference", "low", "high"),
        *_within(0, 1, "p", "p_holm"),
        schema=SCHEMA,
    )
    op.create_table(
        "metrics",
        *_of_an_evaluation(),
        *_text("arm", "test", "label"),
        *_text("group", "against", nullable=True),
        *_text("metric"),
        *_whole("images"),
        sa.Column("positives", sa.BigInteger(), nullable=True),
        *_whole("patients", "seeds"),
        *_number("value", "low", "high"),
        *_text("reference", nullable=True),
        *_number("difference", "difference_low", "difference_high", "p", "p_holm", "dof"),
        _flags(),
        *_within(0, 1, "p", "p_holm"),
        *_finite("value", "low", "high", "difference", "difference_low", "difference_high"),
        schema=SCHEMA,
    )
    for table in ("answers", "metrics"):
        op.create_index(f"{table}_of_evaluation", table, ["evaluation", "id"], schema=SCHEMA)
        op.execute(
            f"CREATE TRIGGER never_changed BEFORE UPDATE ON evaluation.{table}"
            " FOR EACH ROW EXECUTE FUNCTION evaluation.refuse_change()"
        )
    op.execute("""
        CREATE FUNCTION evaluation.refuse_removal() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what was found is superseded, never removed';
        END $$
    """)
    for table in RECORDS:
        op.execute(
            f"CREATE TRIGGER never_removed BEFORE DELETE ON evaluation.{table}"
            " FOR EACH ROW EXECUTE FUNCTION evaluation.refuse_removal()"
        )


def downgrade() -> None:
    for table in RECORDS:
        op.execute(f"DROP TRIGGER never_removed ON evaluation.{table}")
    op.execute("DROP FUNCTION evaluation.refuse_removal()")
    for table in ("metrics", "answers"):
        op.drop_table(table, schema=SCHEMA)
    for table in ("results", "comparisons"):
        for column in PARTS:
            op.drop_column(table, column, schema=SCHEMA)
