"""Predictions of any classifier, evaluated on their own; features of a lab's own extractor."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "evaluation_0005"
down_revision = "evaluation_0004"
branch_labels = None
depends_on = None

SCHEMA = "evaluation"


def _of_anything() -> list[sa.Column]:
    """Whose it is, what was asked, and when."""
    created = sa.Column(
        "created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
    )
    return [
        sa.Column("id", sa.Uuid(), primary_key=True),
        *[sa.Column(n, sa.Uuid(), nullable=False) for n in ("project", "owner")],
        sa.Column("request", JSONB(), nullable=False),
        created,
    ]


def upgrade() -> None:
    op.create_table(
        "judgements",
        *_of_anything(),
        sa.Column("job", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("files", JSONB(), nullable=False),
        sa.Column("compared", JSONB(), nullable=True),
        sa.Column("result", JSONB(), nullable=True),
        schema=SCHEMA,
    )
    op.create_index("judgements_of_project", "judgements", ["project", "id"], schema=SCHEMA)
    op.create_table(
        "features",
        *_of_anything(),
        sa.Column("manifest", sa.String(), nullable=False),
        *[sa.Column(n, sa.BigInteger(), nullable=False) for n in ("images", "dimension")],
        *[sa.Column(n, sa.String(), nullable=False) for n in ("key", "sha256")],
        schema=SCHEMA,
    )
    op.create_index("features_of_project", "features", ["project", "id"], schema=SCHEMA)


def downgrade() -> None:
    op.drop_table("features", schema=SCHEMA)
    op.drop_table("judgements", schema=SCHEMA)
