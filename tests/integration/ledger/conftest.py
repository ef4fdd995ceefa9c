"""One battery, two databases: every test that takes `ledger` runs on SQLite and on PostgreSQL."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from pipeline.ledger import migrate
from pipeline.ledger.session import Ledger
from pipeline.ledger.vault import Vault


class Databases:
    """Databases on one server. Those of tests are copied from one that was migrated once."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._names: list[str] = []
        self.template: str | None = None

    def create(self, template: str | None = None) -> str:
        name = f"lodge_test_{uuid4().hex}"
        source = sql.Identifier(template or "template1")
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), source))
        self._names.append(name)
        return name

    def migrated(self) -> str:
        if self.template is None:
            self.template = self.create()
            migrate.upgrade(self.url(self.template))
        return self.create(self.template)

    def url(self, name: str) -> str:
        return urlsplit(self._server_url)._replace(path=f"/{name}").geturl()

    def drop(self, name: str) -> None:
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        self._names.remove(name)

    def drop_all(self) -> None:
        for name in tuple(self._names):
            self.drop(name)

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._server_url, autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session")
def databases(postgres_url: str) -> Iterator[Databases]:
    all_of_them = Databases(postgres_url)
    yield all_of_them
    all_of_them.drop_all()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "migrated.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'ledger.db')}"


@pytest.fixture
def postgresql_url(databases: Databases) -> Iterator[str]:
    """A database of the test's own, migrated."""
    name = databases.migrated()
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a schema."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    databases: Databases = request.getfixturevalue("databases")
    name = databases.create()
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture
def vault() -> Vault:
    return Vault([b"synthetic master key, 32 bytes!!"])


@pytest.fixture
async def ledger(ledger_url: str, vault: Vault) -> AsyncIterator[Ledger]:
    opened = Ledger(ledger_url, vault)
    yield opened
    await opened.close()


@pytest.fixture
async def postgresql_ledger(postgresql_url: str, vault: Vault) -> AsyncIterator[Ledger]:
    opened = Ledger(postgresql_url, vault)
    yield opened
    await opened.close()


@pytest.fixture
async def sqlite_ledger(sqlite_url: str, vault: Vault) -> AsyncIterator[Ledger]:
    opened = Ledger(sqlite_url, vault)
    yield opened
    await opened.close()
