"""RabbitMQ and PostgreSQL for a run: those that the environment names, those of this machine, else private ones."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from kombu.connection import Connection
from psycopg import sql

from pipeline.broker.topology import Topology
from tests.services.postgres import PrivatePostgres
from tests.services.rabbitmq import PrivateRabbit

_LOCAL_BROKER = "amqp://guest:guest@127.0.0.1:5672/"
_LOCAL_DATABASE = "postgresql://root@127.0.0.1:5432/test"
BASELINE_STEPS = ("seal", "submit", "record")


@dataclass(frozen=True, slots=True)
class Servers:
    """`namespace` is the run's own on the broker; the database holds nothing else."""

    broker_url: str
    database_url: str
    namespace: str

    @property
    def baseline_queues(self) -> str:
        """What the names of the baseline's queues begin with."""
        return _baseline_queues(self.namespace)

    @property
    def broker_port(self) -> int:
        return urlsplit(self.broker_url).port or 5672

    @property
    def database_port(self) -> int:
        return urlsplit(self.database_url).port or 5432


@contextmanager
def opened() -> Iterator[Servers]:
    """The servers, with a database and a namespace that are gone afterwards."""
    namespace = f"bench-{uuid4().hex[:8]}"
    with ExitStack() as stack:
        broker_url = os.environ.get("LODGE_TEST_AMQP_URL") or _local_broker() or _private_broker(stack)
        server_url = os.environ.get("LODGE_TEST_DATABASE_URL") or _local_database() or _private_database(stack)
        database = namespace.replace("-", "_")
        _execute(server_url, "CREATE DATABASE {}", database)
        stack.callback(_execute, server_url, "DROP DATABASE {} WITH (FORCE)", database)
        stack.callback(_clear, broker_url, namespace)
        yield Servers(broker_url, urlsplit(server_url)._replace(path=f"/{database}").geturl(), namespace)


def _baseline_queues(namespace: str) -> str:
    return f"{namespace}-baseline"


def _local_broker() -> str | None:
    with Connection(_LOCAL_BROKER, connect_timeout=2) as connection:
        try:
            connection.connect()
        except OSError:
            return None
    return _LOCAL_BROKER


def _local_database() -> str | None:
    try:
        psycopg.connect(_LOCAL_DATABASE, connect_timeout=2).close()
    except psycopg.OperationalError:
        return None
    return _LOCAL_DATABASE


def _private_broker(stack: ExitStack) -> str:
    server = PrivateRabbit()
    stack.callback(server.stop)
    server.start()
    return server.url


def _private_database(stack: ExitStack) -> str:
    server = PrivatePostgres()
    stack.callback(server.stop)
    server.start()
    return server.url


def _execute(url: str, statement: str, name: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


def _clear(url: str, namespace: str) -> None:
    topology = Topology(namespace)
    with Connection(url, connect_timeout=10) as connection:
        channel = connection.channel()
        for queue in topology.queues().values():
            queue(channel).delete()
        for exchange in topology.exchanges():
            exchange(channel).delete()
        for step in BASELINE_STEPS:
            name = f"{_baseline_queues(namespace)}.{step}"
            channel.queue_delete(name)
            channel.exchange_delete(name)
