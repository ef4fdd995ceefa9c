"""Both event loops, and an authority of the test's own."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.doubles.private_ca import PrivateCa


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Workers run on uvloop, people's scripts on asyncio; sockets and TLS differ between the two."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> PrivateCa:
    return PrivateCa(tmp_path_factory.mktemp("private_ca"))
