"""What a generator's training set does not match of an order, by image and counted by cohort."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "generation_0014"
down_revision = "generation_0013"
branch_labels = None
depends_on = None

SCHEMA = "generation"


def upgrade() -> None:
    op.add_column("generations", sa.Column("nearest_images", sa.Integer()), schema=SCHEMA)
    op.add_column("images", sa.Column("nearest_match", JSONB()), schema=SCHEMA)
    op.execute(
        "UPDATE generation.generations SET request = jsonb_set(request, '{mirror}', "
        "jsonb_build_object('dataset', request->'mirror')) "
        "WHERE jsonb_typeof(request->'mirror') = 'string'"
    )


def downgrade() -> None:
    op.execute(
        "UPDATE generation.generations SET request = jsonb_set(request, '{mirror}', "
        "request->'mirror'->'dataset') WHERE jsonb_typeof(request->'mirror') = 'object'"
    )
    op.drop_column("images", "nearest_match", schema=SCHEMA)
    op.drop_column("generations", "nearest_images", schema=SCHEMA)
