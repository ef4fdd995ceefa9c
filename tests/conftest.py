"""Real servers for the tests: those that the environment names, else private ones, started once when first needed."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import structlog
from kombu.connection import Connection

from pipeline.broker.topology import Topology
from pipeline.ledger import migrate
from tests.doubles.key_places import TokenOfATest
from tests.doubles.tcp_proxy import TcpProxy
from tests.services.databases import Databases
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit
from tests.services.softhsm import SoftHsm

AMQP = "LODGE_TEST_AMQP_URL"
DATABASE = "LODGE_TEST_DATABASE_URL"


class _Server(Protocol):
    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Servers:
    """The servers of one run; `stop` ends only those that it started."""

    def __init__(self) -> None:
        self._started: dict[str, _Server] = {}

    def url(self, variable: str) -> str:
        """What the environment says, else the URL of a private server."""
        named = os.environ.get(variable)
        if named:
            return named
        if variable not in self._started:
            server: _Server = PrivateRabbit() if variable == AMQP else PrivatePostgres()
            server.start()
            self._started[variable] = server
        return self._started[variable].url

    def stop(self) -> None:
        for server in self._started.values():
            server.stop()


_LONGEST_FIRST = ("acceptance", "chaos", "flow", "model", "contract", "integration")
_RUN = pytest.StashKey[Servers]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RUN] = Servers()
    if config.getoption("numprocesses", default=None) and not hasattr(config, "workerinput"):
        # The processes of pytest-xdist inherit the environment, and so share one server of each kind.
        os.environ.update({variable: config.stash[_RUN].url(variable) for variable in (AMQP, DATABASE)})


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folders whose tests take longest go first, in the order of chance: one of them that began last would be
    waited for alone.
    """
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    folders = item.path.relative_to(Path(__file__).parent).parts
    return min((_LONGEST_FIRST.index(one) for one in folders if one in _LONGEST_FIRST), default=len(_LONGEST_FIRST))


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[_RUN].stop()


@pytest.fixture(autouse=True)
def logs_of_its_own() -> Iterator[None]:
    """A command under test says where the process logs to; the next test must not inherit that."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def amqp_url(pytestconfig: pytest.Config) -> str:
    """A RabbitMQ broker; what a test declares on it is in a namespace of its own."""
    return pytestconfig.stash[_RUN].url(AMQP)


@pytest.fixture(scope="session")
def mortal_rabbit() -> Iterator[PrivateRabbit]:
    """A node that tests may kill, whatever broker the environment names; each leaves it running."""
    node = PrivateRabbit()
    node.start()
    yield node
    node.stop()


@pytest.fixture
async def proxy(amqp_url: str) -> AsyncIterator[TcpProxy]:
    """A proxy between the test and the broker, to cut and to freeze."""
    async with TcpProxy(urlsplit(amqp_url).port or 5672) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def postgres_url(pytestconfig: pytest.Config) -> str:
    """A PostgreSQL server, as the URL of a database whose user may create others."""
    return pytestconfig.stash[_RUN].url(DATABASE)


@pytest.fixture(scope="session")
def databases(postgres_url: str) -> Iterator[Databases]:
    all_of_them = Databases(postgres_url)
    yield all_of_them
    all_of_them.drop_all()


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """An empty database of the test's own."""
    name = databases.create()
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture
def postgresql_url(databases: Databases) -> Iterator[str]:
    """A database of the test's own, migrated."""
    name = databases.migrated()
    yield databases.url(name)
    databases.drop(name)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite ledger without a lodgment, to be copied."""
    path = tmp_path_factory.mktemp("ledger") / "migrated.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    """A file of the test's own, migrated."""
    return f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'ledger.db')}"


@pytest.fixture(scope="session")
def softhsm() -> Iterator[SoftHsm]:
    """PKCS#11 tokens that live in files."""
    hsm = SoftHsm()
    yield hsm
    hsm.stop()


@pytest.fixture
def hsm_token(softhsm: SoftHsm, tmp_path: Path) -> TokenOfATest:
    """A token of the test's own."""
    return TokenOfATest(softhsm, tmp_path)


@pytest.fixture
def topology(amqp_url: str) -> Iterator[Topology]:
    """A namespace of the test's own on the broker, deleted afterwards."""
    own = Topology(f"test-{uuid4().hex[:12]}")
    yield own
    delete_topology(amqp_url, own)


def delete_topology(url: str, topology: Topology) -> None:
    with Connection(url, connect_timeout=10) as connection:
        channel = connection.channel()
        for queue in topology.queues().values():
            queue(channel).delete()
        for exchange in topology.exchanges():
            exchange(channel).delete()
