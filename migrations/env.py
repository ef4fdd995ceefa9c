"""What alembic runs around the migrations. The connection comes from `pipeline.ledger.migrate`."""

from alembic import context
from sqlalchemy.engine import Connection

from pipeline.ledger.tables import metadata

_LOCK = 0x6D696772  # "migr": a second migrator waits for the first, and then finds nothing to do


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            # A migration that waits for a lock holds up every query behind it: give up soon, and try again later.
            connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
        context.run_migrations()


_run(context.config.attributes["connection"])
