"""What trivial features of a test set's images tell of its labels."""

import sqlalchemy as sa
from alembic import op

revision = "evaluation_0009"
down_revision = "evaluation_0008"
branch_labels = None
depends_on = None

SCHEMA = "evaluation"
WORDS = """
    UPDATE evaluation.qualities SET result = jsonb_set(
        result, '{agreement,leakage}',
        CASE WHEN (result #> '{agreement,leakage}')::boolean
        THEN '["the classifier, or a generator behind it, had seen patients of these images"]'
        ELSE '[]' END::jsonb
    ) WHERE jsonb_typeof(result #> '{agreement,leakage}') = 'boolean'
"""
"""What an agreement says of leakage is a list of words, and was yes or no."""
YES_OR_NO = """
    UPDATE evaluation.qualities SET result = jsonb_set(
        result, '{agreement,leakage}',
        to_jsonb(jsonb_array_length(result #> '{agreement,leakage}') > 0)
    ) WHERE jsonb_typeof(result #> '{agreement,leakage}') = 'array'
"""
TRAINED = ("trained_auroc", "trained_low", "trained_high")
TRIGGERS = {
    "never_changed": ("UPDATE", "refuse_change"),
    "never_removed": ("DELETE", "refuse_removal"),
}


def upgrade() -> None:
    op.create_table(
        "baselines",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column(
            "evaluation", sa.Uuid(), sa.ForeignKey(f"{SCHEMA}.evaluations.id"), nullable=False
        ),
        sa.Column("experiment", sa.Uuid(), nullable=False),
        *(sa.Column(name, sa.String(), nullable=False) for name in ("test", "label")),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("images", "positives", "patients")
        ),
        sa.Column("auroc", sa.Float(), nullable=False),
        *(sa.Column(name, sa.Float()) for name in ("low", "high", *TRAINED)),
        sa.Column("feature", sa.String(), nullable=False),
        sa.Column("feature_auroc", sa.Float(), nullable=False),
        *(
            sa.CheckConstraint(f"{column} BETWEEN 0 AND 1", name=f"{column}_range")
            for column in ("auroc", "low", "high", "feature_auroc", *TRAINED)
        ),
        schema=SCHEMA,
    )
    op.create_index("baselines_of_evaluation", "baselines", ["evaluation", "id"], schema=SCHEMA)
    for name, (event, function) in TRIGGERS.items():
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {event} ON {SCHEMA}.baselines"
            f" FOR EACH ROW EXECUTE FUNCTION {SCHEMA}.{function}()"
        )

    op.execute(WORDS)


def downgrade() -> None:
    op.execute(YES_OR_NO)
    op.drop_table("baselines", schema=SCHEMA)
