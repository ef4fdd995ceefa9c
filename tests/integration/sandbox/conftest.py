"""A sandbox on a free port, and a naive client to talk to it."""

from collections.abc import AsyncIterator

import pytest

from pipeline.protocol.credential import Credential
from pipeline.protocol.keystore import read_keystore
from pipeline.sandbox.asic_messages import SERVICES, Service
from pipeline.sandbox.home import Home, Standing
from pipeline.sandbox.server import Sandbox
from tests.doubles.sandbox_client import SandboxClient
from tests.doubles.sandbox_messages import Token
from tests.services.sandbox_home import new_home


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return new_home(tmp_path_factory.mktemp("sandbox") / "home")


@pytest.fixture(scope="session")
def credentials(home: Home) -> dict[str, Credential]:
    """By id, as a client reads them from the keystore."""
    password = home.keystore_password_file.read_text()
    return {one.id: one for one in read_keystore(home.keystore_file.read_bytes(), password)}


@pytest.fixture
def credential(home: Home, credentials: dict[str, Credential]) -> Credential:
    return credentials[home.credential().id]


@pytest.fixture
def other(home: Home, credentials: dict[str, Credential]) -> Credential:
    """A second credential in good standing, of another ABN."""
    good = [one for one in home.credentials if one.standing is Standing.GOOD]
    return credentials[good[1].id]


@pytest.fixture
async def sandbox(home: Home) -> AsyncIterator[Sandbox]:
    async with Sandbox(home) as running:
        yield running


@pytest.fixture
async def client(sandbox: Sandbox, credential: Credential) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(sandbox, credential) as talking:
        yield talking


@pytest.fixture
async def token(client: SandboxClient) -> Token:
    return await client.token()


@pytest.fixture(scope="session")
def lodging() -> Service:
    return next(service for service in SERVICES if service.updates)


@pytest.fixture(scope="session")
def ping() -> Service:
    return next(service for service in SERVICES if service.message_type == "ping")
