"""Monthly partitions on PostgreSQL. Ids are UUIDv7 and begin with their time, so a month is a range of ids."""

from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from pipeline.ledger.batch import Dialect
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import PARTITIONED
from pipeline.lodgment.references import earliest_id

_LOCK = 0x6C6F6467  # "lodg": one creator at a time, over all processes


async def ensure(tx: Tx, now: datetime, months_ahead: int = 2) -> list[str]:
    """Create the partitions of this month and the coming ones where they are missing; the names of the new ones.

    Called daily. Rows without a month of their own go to the default partition, so being late loses nothing. SQLite
    has no partitions.
    """
    if tx.dialect is Dialect.SQLITE:
        return []
    tables = [table.name for table in PARTITIONED]
    return await tx.connection.run_sync(create_missing, tables, now, months_ahead)


def create_missing(connection: Connection, tables: Sequence[str], now: datetime, months_ahead: int = 2) -> list[str]:
    """`ensure` for migrations, which have a plain connection."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    created = []
    for table in tables:
        month = first
        for _ in range(months_ahead + 1):
            following = _next_month(month)
            name = f"{table}_{month:%Y%m}"
            if connection.scalar(sa.select(sa.func.to_regclass(name))) is None:
                _create(connection, table, name, month, following)
                created.append(name)
            month = following
    return created


async def without(connection: AsyncConnection, month: datetime) -> list[str]:
    """The partitions of the month after `month` that are not there; PostgreSQL only."""
    following = _next_month(month.astimezone(UTC).replace(day=1))
    names = [f"{table.name}_{following:%Y%m}" for table in PARTITIONED]
    return [name for name in names if await connection.scalar(sa.select(sa.func.to_regclass(name))) is None]


def _create(connection: Connection, table: str, name: str, start: datetime, end: datetime) -> None:
    low, high = earliest_id(start), earliest_id(end)
    strayed = f"DELETE FROM {table}_default WHERE id >= '{low}' AND id < '{high}' RETURNING *"  # noqa: S608  - all ours
    # Attached, not created in place: CREATE TABLE ... PARTITION OF would shut the whole table to readers and writers.
    for statement in (
        f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)",
        f"LOCK TABLE {table}_default IN ACCESS EXCLUSIVE MODE",
        f"WITH strayed AS ({strayed}) INSERT INTO {name} SELECT * FROM strayed",  # noqa: S608  - all ours
        f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{low}') TO ('{high}')",
    ):
        connection.exec_driver_sql(statement)


def _next_month(month: datetime) -> datetime:
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
