"""The way into the ledger: one transaction at a time, on whichever database."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from pipeline.ledger import migrate
from pipeline.ledger.batch import Dialect
from pipeline.ledger.faults import translated
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import ConfigurationError

_CONNECT_SECONDS = 10
_BUSY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Tx:
    """An open transaction. The functions of this package take it first; what they do is done or undone with it."""

    connection: AsyncConnection
    vault: Vault
    dialect: Dialect


class Ledger:
    """The database of one process; safe to share among its tasks.

    While a server is away every transaction raises `DependencyDownError`; when it is back, nothing needs restarting.
    """

    def __init__(self, url: str, vault: Vault, *, pool_size: int = 10) -> None:
        """`url` as SQLAlchemy writes it: `postgresql://user@host/name`, or `sqlite:///file`.

        Raises:
            ConfigurationError: `ledger.url`, unreadable or of another database.
        """
        location = migrate.database_url(url)
        self._vault = vault
        self._dialect = Dialect(location.get_backend_name())
        self._engine = (
            _postgresql(location, pool_size) if self._dialect is Dialect.POSTGRESQL else _sqlite(location, pool_size)
        )
        # SQLite has one writer at a time. Waiting here is fair and cheap; waiting in the database is polling.
        self._writer = asyncio.Lock() if self._dialect is Dialect.SQLITE else None

    @asynccontextmanager
    async def transaction(self, *, read_only: bool = False) -> AsyncIterator[Tx]:
        """Committed when the block ends, rolled back when it raises.

        `read_only` is for readers: on SQLite they do not queue with the writers.

        Raises:
            DependencyDownError: the database cannot be used now; whether a commit under way took effect is not known.
            RefusedError: `ledger.refused`, a row breaks a constraint.
        """
        queue = nullcontext() if read_only or self._writer is None else self._writer
        with translated():
            async with queue, self._engine.connect() as connection:
                await connection.execution_options(lodge_read_only=read_only)
                async with connection.begin():
                    yield Tx(connection, self._vault, self._dialect)

    async def check(self) -> None:
        """See that the database answers and has the schema that this code needs.

        Raises:
            DependencyDownError: it does not answer.
            ConfigurationError: `ledger.schema`, it was never migrated, or not far enough. A newer schema is accepted:
                migrations keep old code running, so that workers can be replaced one by one.
        """
        async with self.transaction(read_only=True) as tx:
            found = await tx.connection.run_sync(migrate.revision_of)
        if migrate.is_behind(found):
            raise ConfigurationError(
                "ledger.schema",
                f"the ledger's schema is {found or 'empty'}, this code needs {migrate.head()}: run `lodge db upgrade`",
            )

    async def close(self) -> None:
        """Give back every connection."""
        await self._engine.dispose()


def _postgresql(url: URL, pool_size: int) -> AsyncEngine:
    return create_async_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_BUSY_SECONDS,
        # Connections that a restart of the server killed are found here, not in the middle of a batch.
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            "application_name": "lodgment-pipeline",
            "connect_timeout": _CONNECT_SECONDS,
            "tcp_user_timeout": _BUSY_SECONDS * 1000,
            "options": "-c timezone=UTC -c statement_timeout=60s -c lock_timeout=30s "
            # Plans are kept. One that was made for a table still empty, as every month's partition once is, would read
            # the whole of it until the next ANALYZE; jit would take its cost for a reason to compile.
            "-c idle_in_transaction_session_timeout=120s -c enable_seqscan=off -c jit=off",
        },
    )


def _sqlite(url: URL, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_BUSY_SECONDS,
        hide_parameters=True,
        # The driver's own BEGIN comes too late (at the first write) and is never IMMEDIATE: ours below replaces it.
        connect_args={"isolation_level": None, "timeout": _BUSY_SECONDS},
    )
    sa.event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # A confirmed job must survive a power cut; WAL's usual NORMAL may lose the last commits.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # Taking the write lock at once leaves no read transaction that fails when it turns into a writing one.
    read_only = connection.get_execution_options().get("lodge_read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
