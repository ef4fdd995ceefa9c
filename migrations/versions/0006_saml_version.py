"""Token keys name the version of SAML that their token has: after a change of the setting, no cached token serves."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("security_token", sa.Column("saml_version", sa.Text(), nullable=False, server_default="2.0"))


def downgrade() -> None:
    op.execute("DELETE FROM security_token WHERE saml_version <> '2.0'")
    op.drop_column("security_token", "saml_version")
