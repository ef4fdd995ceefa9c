"""RabbitMQ as the doctor sees it: what is missing stays missing, what differs is named, an alarm is told."""

import dataclasses

import pytest
from kombu.connection import Connection
from kombu.entity import Queue

from pipeline.broker.inspection import broker_address, inspect, ready
from pipeline.broker.port import Exchange, Outgoing
from pipeline.broker.rabbitmq import RabbitBroker
from pipeline.broker.topology import Topology
from pipeline.lodgment.errors import ConfigurationError, DependencyDownError
from pipeline.lodgment.states import Step
from tests.services.processes import free_port
from tests.services.rabbitmq import PrivateRabbit


def everything(topology: Topology) -> set[str]:
    return {one.name for one in topology.exchanges()} | {one.name for one in topology.queues().values()}


async def declared(url: str, topology: Topology, messages: int = 0) -> None:
    broker = RabbitBroker([url], topology)
    await broker.open()
    await broker.publish(
        [Outgoing(Exchange.STEPS, Step.SEAL, b"{}", f"synthetic-{number}") for number in range(messages)]
    )
    await broker.close()


async def test_looking_declares_nothing(amqp_url: str, topology: Topology) -> None:
    for _ in range(2):
        view = await inspect(amqp_url, topology)
        assert set(view.absent) == everything(topology)
        assert view.depths == {}


async def test_counting_what_is_ready_declares_nothing(amqp_url: str, topology: Topology) -> None:
    assert await ready(amqp_url, topology) == dict.fromkeys(topology.queues())
    assert set((await inspect(amqp_url, topology)).absent) == everything(topology)
    await declared(amqp_url, topology, messages=3)
    assert await ready(amqp_url, topology) == {name: 3 if name == Step.SEAL else 0 for name in topology.queues()}


async def test_what_is_ready_is_counted_also_where_queues_are_declared_otherwise(
    amqp_url: str, topology: Topology
) -> None:
    await declared(amqp_url, topology, messages=3)
    other = dataclasses.replace(topology, delivery_limit=topology.delivery_limit + 1)
    assert (await ready(amqp_url, other))[Step.SEAL] == 3


async def test_a_broker_as_it_must_be_is_all_alike_and_keeps_its_messages(amqp_url: str, topology: Topology) -> None:
    await declared(amqp_url, topology, messages=3)
    for _ in range(2):
        view = await inspect(amqp_url, topology)
        assert view.product == "RabbitMQ"
        assert view.version[0].isdigit()
        assert (view.absent, view.different, view.alarm) == ((), {}, None)
        assert view.depths == {topology.queue_name(name): 3 if name == Step.SEAL else 0 for name in topology.queues()}


async def test_a_queue_declared_otherwise_is_named_and_the_others_are_still_seen(
    amqp_url: str, topology: Topology
) -> None:
    await declared(amqp_url, topology)
    other = dataclasses.replace(topology, delivery_limit=topology.delivery_limit + 1)
    view = await inspect(amqp_url, other)
    steps = {topology.queue_name(name) for name in topology.queues()} - {topology.queue_name("quarantine")}
    assert set(view.different) == steps
    assert all("406" in said for said in view.different.values())
    assert view.absent == ()


async def test_a_classic_queue_in_our_place_is_told(amqp_url: str, topology: Topology) -> None:
    name = topology.queue_name(Step.SEAL)
    with Connection(amqp_url) as connection:
        channel = connection.channel()
        Queue(name, durable=True, queue_arguments={"x-queue-type": "classic"}).bind(channel).declare()
        view = await inspect(amqp_url, topology)
        channel.queue_delete(name)
    assert list(view.different) == [name]


async def test_an_alarm_of_the_broker_is_told(mortal_rabbit: PrivateRabbit, topology: Topology) -> None:
    await declared(mortal_rabbit.url, topology)
    mortal_rabbit.ctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        view = await inspect(mortal_rabbit.url, topology)
    finally:
        mortal_rabbit.ctl("set_vm_memory_high_watermark", "0.4")
    assert view.alarm is not None
    assert "memory" in view.alarm
    assert (await inspect(mortal_rabbit.url, topology)).alarm is None


async def test_a_broker_that_refuses_or_is_away_is_an_error_without_the_password(
    amqp_url: str, topology: Topology
) -> None:
    with pytest.raises(DependencyDownError) as away:
        await inspect(f"amqp://guest:hunter2@127.0.0.1:{free_port()}/", topology)
    host, port = broker_address(amqp_url)
    with pytest.raises(ConfigurationError) as refused:
        await inspect(f"amqp://nobody:hunter2@{host}:{port}/", topology)
    assert refused.value.code == "broker.access"
    assert "hunter2" not in f"{away.value}{refused.value}"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("amqp://guest:guest@broker.example/", ("broker.example", 5672)),
        ("amqps://guest:guest@broker.example/", ("broker.example", 5671)),
        ("amqp://guest:guest@broker.example:5673/lodge", ("broker.example", 5673)),
    ],
)
def test_where_a_broker_is(url: str, address: tuple[str, int]) -> None:
    assert broker_address(url) == address
