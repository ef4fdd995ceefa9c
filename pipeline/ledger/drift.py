"""Whether the migrations build exactly the tables that the code declares; tried out on an empty database."""

import re

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import Connection
from sqlalchemy.pool import NullPool

from pipeline.ledger import migrate
from pipeline.ledger.faults import translated
from pipeline.ledger.tables import PARTITIONED, metadata
from pipeline.lodgment.errors import ConfigurationError

_PARTITION = re.compile(rf"({'|'.join(table.name for table in PARTITIONED)})_(\d{{6}}|default)")


def differences(url: str) -> list[str]:
    """What differs, one line each; the database is migrated, compared, and taken back to nothing.

    Raises:
        ConfigurationError: `drift.not-empty`, the database holds tables: it might be somebody's ledger.
        DependencyDownError: it cannot be used now.
    """
    engine = sa.create_engine(migrate.database_url(url), poolclass=NullPool, hide_parameters=True)
    with translated(), engine.connect() as connection:
        if sa.inspect(connection).get_table_names():
            raise ConfigurationError("drift.not-empty", "--url: drift is tried out on an empty database only; make one")
    migrate.upgrade(url)
    try:
        with translated(), engine.connect() as connection:
            return [*_of_tables(connection), *_of_checks(connection)]
    finally:
        migrate.downgrade(url, "base")


def _of_tables(connection: Connection) -> list[str]:
    options = {"include_name": _is_ours, "compare_type": True, "compare_server_default": True}
    found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    return [str(difference) for difference in found]


def _of_checks(connection: Connection) -> list[str]:
    """Alembic's comparison leaves check constraints out."""
    inspector = sa.inspect(connection)
    lines = []
    for table in metadata.sorted_tables:
        declared = {str(each.name) for each in table.constraints if isinstance(each, sa.CheckConstraint)}
        built = {str(each["name"]) for each in inspector.get_check_constraints(table.name)}
        lines += [f"{table.name}: check constraint {name} is on one side only" for name in sorted(declared ^ built)]
    return lines


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return not (kind == "table" and name is not None and _PARTITION.fullmatch(name))
