"""${message}

Rules for every migration:
- Workers of the release before this one keep running on the new schema. Expand here (new tables, new columns that
  are nullable or have a default), change the code, contract in a later release.
- It runs on PostgreSQL and on SQLite, up and down; tests/integration/ledger/test_migrations.py looks for drift.
- It waits 5 seconds for a lock at most (env.py). Build an index on a table in use with postgresql_concurrently=True
  inside op.get_context().autocommit_block(); add constraints NOT VALID and validate them later.
- It touches rows in batches, and never rewrites lodgment, attempt, artifact or message_event in one statement.
- It imports nothing of the application that may change later, except partitions.create_missing.
- A view whose table changes is dropped and created again here.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision).replace("'", '"')}
down_revision = ${repr(down_revision).replace("'", '"')}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
