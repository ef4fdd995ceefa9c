"""Verifiers in Java, one process of each for the whole run; where there is no Java, their tests are left out aloud."""

from collections.abc import Iterator

import pytest

from tests.oracles.java_verifiers import Jdk, Wss4j
from tests.services.processes import ServiceError


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
