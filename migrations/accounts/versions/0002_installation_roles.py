"""Who administers the installation stands with the person, apart from the scopes of their keys."""

import sqlalchemy as sa
from alembic import op

revision = "accounts_0002"
down_revision = "accounts_0001"
branch_labels = None
depends_on = None

ROLES = "installation_role IN ('none', 'admin')"


def upgrade() -> None:
    role = sa.Column("installation_role", sa.String(), server_default="none", nullable=False)
    op.add_column("people", role, schema="accounts")
    op.create_check_constraint("installation_role", "people", ROLES, schema="accounts")


def downgrade() -> None:
    op.drop_constraint("installation_role", "people", schema="accounts")
    op.drop_column("people", "installation_role", schema="accounts")
