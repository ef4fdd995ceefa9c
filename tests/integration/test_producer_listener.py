"""How a payroll application hears its outcomes, against a real broker."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from pipeline.broker.listener import OutcomeListener
from pipeline.broker.messages import OutcomeEvent, refusal_event
from pipeline.broker.port import Exchange, Outgoing
from pipeline.broker.rabbitmq import RabbitBroker
from pipeline.broker.topology import Topology
from pipeline.lodgment.errors import ConfigurationError, DependencyDownError
from tests.doubles.tcp_proxy import TcpProxy

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture
async def broker(amqp_url: str, topology: Topology) -> AsyncIterator[RabbitBroker]:
    made = RabbitBroker([amqp_url], topology)
    await made.open()
    yield made
    await made.close()


def refusal(number: int) -> Outgoing:
    return refusal_event(f"job-{number}", "job.invalid", ["synthetic"], NOW)


def hear(listener: OutcomeListener, count: int) -> list[OutcomeEvent]:
    heard = listener.events(30)
    return [next(heard) for _ in range(count)]


async def test_hears_outcomes_in_order_from_the_moment_it_opens(
    amqp_url: str, topology: Topology, broker: RabbitBroker
) -> None:
    await broker.publish([refusal(0)])
    with OutcomeListener([amqp_url], topology.namespace) as listener:
        await broker.publish([refusal(n) for n in range(1, 6)])
        heard = await asyncio.to_thread(hear, listener, 5)
    assert [event.job_id for event in heard] == [f"job-{n}" for n in range(1, 6)]


async def test_hears_only_what_its_pattern_asks_for(amqp_url: str, topology: Topology, broker: RabbitBroker) -> None:
    with OutcomeListener([amqp_url], topology.namespace, "outcome.*.refused.51824753556") as listener:
        body = refusal(1).body
        for abn in ("53004085616", "51824753556"):
            await broker.publish([Outgoing(Exchange.OUTCOMES, f"outcome.asic_bn.refused.{abn}", body, abn)])
        assert len(await asyncio.to_thread(hear, listener, 1)) == 1
        assert list(listener.events(0.1)) == []


async def test_stops_when_nothing_came_for_the_time_given(
    amqp_url: str, topology: Topology, broker: RabbitBroker
) -> None:
    await broker.publish([])
    with OutcomeListener([amqp_url], topology.namespace) as listener:
        assert list(listener.events(0.05)) == []


async def test_passes_over_what_it_cannot_read(amqp_url: str, topology: Topology, broker: RabbitBroker) -> None:
    with OutcomeListener([amqp_url], topology.namespace) as listener:
        await broker.publish([Outgoing(Exchange.OUTCOMES, "outcome.a.b.c", b"\xff", "x"), refusal(1)])
        (event,) = await asyncio.to_thread(hear, listener, 1)
    assert event.job_id == "job-1"


async def test_says_that_outcomes_may_be_missed_when_the_connection_is_lost(
    amqp_url: str, topology: Topology, broker: RabbitBroker
) -> None:
    await broker.publish([])
    async with TcpProxy(urlsplit(amqp_url).port or 5672) as proxy:
        listener = OutcomeListener([proxy.on_the_way_to(amqp_url)], topology.namespace)
        await asyncio.to_thread(listener.open)
        hearing = asyncio.create_task(asyncio.to_thread(hear, listener, 1))
        await proxy.cut()
        with pytest.raises(DependencyDownError, match="not heard") as loss:
            await hearing
        assert loss.value.code == "broker.down"
        await asyncio.to_thread(listener.close)


def test_says_that_nobody_declared_the_namespace(amqp_url: str) -> None:
    with pytest.raises(DependencyDownError) as refusal, OutcomeListener([amqp_url], "nobody-declared-this"):
        pass
    assert refusal.value.code == "broker.unroutable"


def test_says_when_it_is_not_open(amqp_url: str) -> None:
    with pytest.raises(DependencyDownError, match="not open"):
        next(OutcomeListener([amqp_url]).events(1))


@pytest.mark.parametrize("url", ["http://localhost/", "amqps://localhost/?ssl_options={}"])
def test_refuses_a_url_that_is_not_amqp(url: str) -> None:
    with pytest.raises(ConfigurationError, match="amqp"):
        OutcomeListener([url]).open()
