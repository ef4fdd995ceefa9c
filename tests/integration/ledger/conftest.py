"""One battery, two databases: every test that takes `ledger` runs on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pipeline.ledger.session import Ledger
from pipeline.ledger.vault import Vault
from tests.services.databases import Databases


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
