"""The database as the doctor sees it, on both databases; looking leaves no trace."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from pipeline.ledger import migrate
from pipeline.ledger.inspection import database_file, inspect, server_address
from pipeline.ledger.migrate import missing
from pipeline.lodgment.errors import ConfigurationError, DependencyDownError
from tests.services.processes import free_port

NOW = datetime.now(UTC)


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {str(name) for (name,) in rows}


async def test_a_ledger_as_it_must_be_lacks_nothing(ledger_url: str) -> None:
    view = await inspect(ledger_url, NOW)
    assert view.revision == migrate.head()
    assert view.lacking == ()
    assert view.unpartitioned == ()
    assert view.version[0].isdigit()


async def test_a_database_without_a_schema_lacks_every_migration_and_is_left_so(postgres_url: str) -> None:
    name = f"lodge_test_inspection_{free_port()}"
    url = urlsplit(postgres_url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        view = await inspect(url, NOW)
        assert view.revision is None
        assert view.lacking == missing(None)
        assert view.lacking[0] == "0001"
        assert view.lacking[-1] == migrate.head()
        assert tables(url) == set()
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_partitions_of_next_month_that_are_missing_are_named(postgresql_url: str) -> None:
    later = NOW + timedelta(days=366)
    before = tables(postgresql_url)
    view = await inspect(postgresql_url, later)
    following = (later.replace(day=28) + timedelta(days=4)).strftime("%Y%m")
    assert set(view.unpartitioned) == {f"{table}_{following}" for table in ("attempt", "artifact", "message_event")}
    assert tables(postgresql_url) == before


async def test_the_clock_of_the_database_is_compared_with_ours(postgresql_url: str) -> None:
    view = await inspect(postgresql_url, NOW)
    assert view.skew is not None
    assert abs(view.skew) < timedelta(seconds=30)


async def test_an_sqlite_file_is_read_and_never_made(tmp_path: Path, sqlite_url: str) -> None:
    assert (await inspect(sqlite_url, NOW)).skew is None
    absent = tmp_path / "absent.db"
    with pytest.raises(ConfigurationError) as refused:
        await inspect(f"sqlite:///{absent}", NOW)
    assert refused.value.code == "ledger.none"
    assert not absent.exists()


async def test_a_server_that_is_not_there_is_an_error_without_the_password() -> None:
    with pytest.raises(DependencyDownError) as away:
        await inspect(f"postgresql://lodge:hunter2@127.0.0.1:{free_port()}/lodge", NOW)
    assert "hunter2" not in str(away.value)


@pytest.mark.parametrize(
    ("url", "address", "file"),
    [
        ("postgresql://lodge@db.example/lodge", ("db.example", 5432), None),
        ("postgresql://lodge@db.example:6543/lodge", ("db.example", 6543), None),
        ("postgresql:///lodge", None, None),
        ("sqlite:////var/lodge/ledger.sqlite3", None, Path("/var/lodge/ledger.sqlite3")),
    ],
)
def test_where_a_ledger_is(url: str, address: tuple[str, int] | None, file: Path | None) -> None:
    assert server_address(url) == address
    assert database_file(url) == file
