"""Which plans a service registered: of their runs nobody else may tell."""

import sqlalchemy as sa
from alembic import op

revision = "evaluation_0010"
down_revision = "evaluation_0009"
branch_labels = None
depends_on = None

SCHEMA = "evaluation"
KEPT = ("content", "digest", "experiment", "project")


def upgrade() -> None:
    op.add_column(
        "plans",
        sa.Column("by_service", sa.Boolean(), nullable=False, server_default=sa.false()),
        schema=SCHEMA,
    )
    _keep(*KEPT, "by_service")


def downgrade() -> None:
    _keep(*KEPT)
    op.drop_column("plans", "by_service", schema=SCHEMA)


def _keep(*columns: str) -> None:
    old, new = (", ".join(f"{row}.{column}" for column in columns) for row in ("OLD", "NEW"))
    op.execute(f"""
        CREATE OR REPLACE FUNCTION evaluation.keep_plan() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF ({old}) IS DISTINCT FROM ({new}) THEN
                RAISE EXCEPTION 'a registered plan is never changed';
            END IF;
            RETURN NEW;
        END $$
    """)
