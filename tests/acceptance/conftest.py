"""The pipeline in real processes, on servers that may be killed."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from pipeline.broker.topology import Topology
from tests.acceptance.havoc import Crew, seeded
from tests.conftest import delete_topology
from tests.services.pipeline_processes import ForkedSite, Servers, Site
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit

SEED_VARIABLE = "LODGE_TEST_SEED"


@pytest.fixture
def chance() -> random.Random:
    """Chance that can be repeated: a failed test shows its seed."""
    seed = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(1_000_000))
    print(f"{SEED_VARIABLE}={seed}")  # noqa: T201  - pytest shows it with a failure
    return seeded(seed)


@pytest.fixture(scope="session")
def mortal_postgres() -> Iterator[PrivatePostgres]:
    """A database server that tests may kill; each leaves it running."""
    server = PrivatePostgres()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def servers(mortal_rabbit: PrivateRabbit, mortal_postgres: PrivatePostgres) -> Iterator[Servers]:
    """A namespace and an empty database of the test's own."""
    name = f"test_{uuid4().hex[:12]}"
    with psycopg.connect(mortal_postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    yield Servers(mortal_rabbit.url, mortal_postgres.url.removesuffix("postgres") + name, name)
    delete_topology(mortal_rabbit.url, Topology(name))


@pytest.fixture
def open_crew(
    tmp_path: Path, servers: Servers, mortal_rabbit: PrivateRabbit, mortal_postgres: PrivatePostgres
) -> Iterator[Callable[..., Crew]]:
    """The six workers and the sandbox, running; the argument is the agency's time-out in seconds, and others are
    settings as in the environment.
    """
    sites: list[Site] = []

    def start(agency_timeout: float, **settings: str) -> Crew:
        site = ForkedSite(tmp_path, servers, agency_timeout=agency_timeout)
        site.set(**settings)
        sites.append(site)
        site.start_sandbox()
        crew = Crew(site, servers, mortal_rabbit, mortal_postgres)
        crew.start()
        return crew

    yield start
    for site in sites:
        print(*site.surprises(), sep="\n")  # noqa: T201  - pytest shows it with a failure
        site.close()
