"""Who administers the installation, for services that do what concerns all projects."""

from alembic import op

revision = "accounts_0003"
down_revision = "accounts_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE VIEW accounts.administrators AS "
        "SELECT id AS person FROM accounts.people WHERE installation_role = 'admin'"
    )


def downgrade() -> None:
    op.execute("DROP VIEW accounts.administrators")
