"""Verifiers in Java, one process of each for the whole run; where there is no Java, their tests are left out aloud.

And the sandbox's SBR2 gateways without a wire between, with a client of theirs.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pipeline.protocol.credential import Credential
from pipeline.protocol.key_files import read_credentials
from pipeline.protocol.keystore import select
from pipeline.sandbox import book
from pipeline.sandbox.commits import Commits
from pipeline.sandbox.home import Home
from pipeline.sandbox.sbr2 import Sbr2Gateways
from pipeline.sandbox.sbr2_book import Sbr2Book
from pipeline.sandbox.sts import TokenService
from tests.doubles.sbr2_client import Sbr2Client, token_of
from tests.oracles.java_verifiers import As4, Jdk, Wss4j
from tests.services.processes import ServiceError
from tests.services.sandbox_home import new_home


@pytest.fixture(scope="session")
def jdk() -> Iterator[Jdk]:
    try:
        verifier = Jdk()
    except ServiceError as error:
        pytest.skip(str(error))
    with verifier:
        yield verifier


@pytest.fixture(scope="session")
def wss4j() -> Iterator[Wss4j]:
    try:
        verifier = Wss4j()
    except ServiceError as error:
        pytest.skip(str(error))
    with verifier:
        yield verifier


@pytest.fixture(scope="session")
def as4_stack() -> Iterator[As4]:
    try:
        stack = As4()
    except ServiceError as error:
        pytest.skip(str(error))
    with stack:
        yield stack


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return new_home(tmp_path_factory.mktemp("sbr2") / "home")


@pytest.fixture(scope="session")
def credentials(home: Home) -> tuple[Credential, ...]:
    return read_credentials(home.keystore_file.read_bytes(), home.keystore_password_file.read_text())


@pytest.fixture
async def gateways(home: Home, tmp_path: Path) -> AsyncIterator[Sbr2Gateways]:
    async with Commits(tmp_path / "book.sqlite", book.SCHEMA) as commits:
        yield Sbr2Gateways(home, Sbr2Book(commits))


@pytest.fixture
def client(home: Home, credentials: tuple[Credential, ...], gateways: Sbr2Gateways) -> Sbr2Client:
    credential = select(credentials, home.credential().id)
    return Sbr2Client(gateways, credential, token_of(TokenService(home), credential))
