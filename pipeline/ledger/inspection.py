"""The ledger's database looked at from outside, without its vault: nothing is created, migrated or written."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from pipeline.ledger import migrate, partitions
from pipeline.ledger.faults import translated
from pipeline.lodgment.errors import ConfigurationError

_CONNECT_SECONDS = 10
_POSTGRESQL_PORT = 5432


@dataclass(frozen=True, slots=True)
class DatabaseView:
    """What was found. `lacking` are the migrations still to run; `unpartitioned` next month's missing partitions."""

    server: str
    version: str
    revision: str | None
    lacking: tuple[str, ...]
    unpartitioned: tuple[str, ...]
    skew: timedelta | None
    """How far the server's clock is ahead of this machine's; None where the database has no clock of its own."""
    took: timedelta


def server_address(url: str) -> tuple[str, int] | None:
    """Host and port of the database server; None for a file, and for a socket of this machine.

    Raises:
        ConfigurationError: `ledger.url`.
    """
    location = migrate.database_url(url)
    if location.get_backend_name() != "postgresql" or not location.host or location.host.startswith("/"):
        return None
    return location.host, location.port or _POSTGRESQL_PORT


def database_file(url: str) -> Path | None:
    """The file of an SQLite ledger; None for a server.

    Raises:
        ConfigurationError: `ledger.url`.
    """
    location = migrate.database_url(url)
    return Path(location.database or "") if location.get_backend_name() == "sqlite" else None


async def inspect(url: str, now: datetime) -> DatabaseView:
    """Look at the database.

    Raises:
        DependencyDownError: it does not answer.
        ConfigurationError: `ledger.url`, or `ledger.none` where the file is not there.
    """
    begun = monotonic()
    location = migrate.database_url(url)
    file = database_file(url)
    if file is not None and not file.is_file():
        raise ConfigurationError("ledger.none", f"ledger: there is none at {file}")
    engine = create_async_engine(
        _reading(location), poolclass=NullPool, hide_parameters=True, connect_args=_patience(location)
    )
    try:
        with translated():
            async with engine.connect() as connection:
                revision = await connection.run_sync(migrate.revision_of)
                lacking = migrate.missing(revision)
                if location.get_backend_name() == "sqlite":
                    version = str(await connection.scalar(sa.select(sa.func.sqlite_version())))
                    return DatabaseView("SQLite", version, revision, lacking, (), None, _since(begun))
                version = str(await connection.scalar(sa.text("SHOW server_version")))
                skew = await _skew(connection)
                unpartitioned = () if revision is None else tuple(await partitions.without(connection, now))
                return DatabaseView("PostgreSQL", version, revision, lacking, unpartitioned, skew, _since(begun))
    finally:
        await engine.dispose()


async def _skew(connection: AsyncConnection) -> timedelta:
    before = datetime.now(UTC)
    there: datetime = (await connection.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
    after = datetime.now(UTC)
    return there - (before + (after - before) / 2)


def _reading(location: URL) -> URL:
    if location.get_backend_name() == "postgresql":
        return location.set(drivername="postgresql+psycopg")
    file = Path(location.database or "").resolve()
    return URL.create("sqlite+aiosqlite", database=f"{file.as_uri()}", query={"mode": "ro", "uri": "true"})


def _patience(location: URL) -> dict[str, str | int]:
    if location.get_backend_name() == "sqlite":
        return {"timeout": _CONNECT_SECONDS}
    return {
        "application_name": "lodgment-pipeline doctor",
        "connect_timeout": _CONNECT_SECONDS,
        "options": "-c timezone=UTC -c statement_timeout=10s -c default_transaction_read_only=on",
    }


def _since(begun: float) -> timedelta:
    return timedelta(seconds=monotonic() - begun)
