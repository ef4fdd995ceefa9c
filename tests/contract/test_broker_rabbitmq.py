"""What only a broker on a network can do to us: refuse, vanish, fall silent, change its mind."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvloop
from kombu.connection import Connection
from structlog.testing import capture_logs

from pipeline.broker.channel import Timing
from pipeline.broker.port import Delivery, Exchange, Outgoing, Subscription
from pipeline.broker.rabbitmq import RabbitBroker
from pipeline.broker.topology import Topology
from pipeline.lodgment.errors import ConfigurationError, DependencyDownError
from tests.doubles.private_ca import PrivateCa
from tests.doubles.tcp_proxy import TcpProxy
from tests.services.processes import free_port
from tests.services.rabbitmq import PrivateRabbit

PATIENCE = 60.0
QUICK = Timing(connect=3, answer=5, confirm=4, heartbeat=4, first_delay=0.05, longest_delay=0.5)


@asynccontextmanager
async def opened(url: str, topology: Topology, timing: Timing = QUICK) -> AsyncIterator[RabbitBroker]:
    broker = RabbitBroker([url], topology, timing=timing)
    await broker.open()
    try:
        yield broker
    finally:
        await broker.close()


def step(number: int) -> Outgoing:
    return Outgoing(Exchange.STEPS, "seal", b"x" * 300, f"id-{number}")


async def publish_until_confirmed(broker: RabbitBroker, message: Outgoing) -> None:
    """As the runner does: the same again until it is confirmed."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            await broker.publish([message])
        except DependencyDownError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        else:
            return


async def publish_without_end(broker: RabbitBroker) -> None:
    for number in itertools.count():
        await broker.publish([step(number)])


async def publish_forever(broker: RabbitBroker, confirmed: set[str]) -> None:
    for number in itertools.count(1000):
        await publish_until_confirmed(broker, step(number))
        confirmed.add(f"id-{number}")


async def take(subscription: Subscription, wanted: set[str]) -> list[Delivery]:
    """Take and acknowledge until all of `wanted` came."""
    taken: list[Delivery] = []
    async with asyncio.timeout(PATIENCE):
        while wanted - {delivery.message_id for delivery in taken}:
            batch = await subscription.take(100, 0.05)
            await subscription.ack(batch)
            taken += batch
    return taken


async def test_nothing_confirmed_is_lost_when_the_broker_is_killed(mortal_rabbit: PrivateRabbit) -> None:
    async with opened(mortal_rabbit.url, Topology("killed")) as broker:
        subscription = await broker.subscribe("seal", 50)
        await broker.publish([step(n) for n in range(200)])
        unacked = await subscription.take(20, 5)
        assert unacked
        confirmed: set[str] = set()
        publishing = asyncio.create_task(publish_forever(broker, confirmed))
        await asyncio.to_thread(mortal_rabbit.kill)
        await asyncio.to_thread(mortal_rabbit.start)
        await publish_until_confirmed(broker, step(-1))
        publishing.cancel()
        await asyncio.wait({publishing})
        await subscription.ack(unacked)  # of a connection that is gone: they come again
        await take(subscription, {f"id-{n}" for n in range(200)} | {"id--1"} | confirmed)


async def test_resumes_after_the_broker_closed_every_connection(mortal_rabbit: PrivateRabbit) -> None:
    async with opened(mortal_rabbit.url, Topology("closed-by-management")) as broker:
        subscription = await broker.subscribe("seal", 50)
        listener = await broker.listen("outcome.#")
        await asyncio.to_thread(mortal_rabbit.ctl, "close_all_connections", "maintenance")
        await publish_until_confirmed(broker, step(1))
        await take(subscription, {"id-1"})
        async with asyncio.timeout(PATIENCE):
            heard: list[Delivery] = []
            hearing = asyncio.create_task(listener.take(1, 0))
            while not hearing.done():
                await publish_until_confirmed(broker, Outgoing(Exchange.OUTCOMES, "outcome.a.b.c", b"{}", "o"))
                await asyncio.wait({hearing}, timeout=0.1)
            heard = await hearing
        assert heard[0].message_id == "o"


async def test_a_memory_alarm_delays_publishers_visibly_and_lets_acks_through(mortal_rabbit: PrivateRabbit) -> None:
    async with opened(mortal_rabbit.url, Topology("alarmed")) as broker:
        subscription = await broker.subscribe("seal", 50)
        await broker.publish([step(1)])
        try:
            await asyncio.to_thread(mortal_rabbit.ctl, "set_vm_memory_high_watermark", "0.00001")
            with pytest.raises(DependencyDownError) as refusal:
                await publish_without_end(broker)
            assert refusal.value.code == "broker.unconfirmed"
            await take(subscription, {"id-1"})
        finally:
            await asyncio.to_thread(mortal_rabbit.ctl, "set_vm_memory_high_watermark", "0.6")
        await publish_until_confirmed(broker, step(3))
        await take(subscription, {"id-3"})


async def test_resumes_after_the_network_cut_and_ignores_old_acks(
    amqp_url: str, topology: Topology, proxy: TcpProxy
) -> None:
    async with opened(proxy.on_the_way_to(amqp_url), topology) as broker:
        subscription = await broker.subscribe("seal", 10)
        await broker.publish([step(n) for n in range(3)])
        before = await subscription.take(3, 5)
        await proxy.cut()
        after: list[Delivery] = []
        async with asyncio.timeout(PATIENCE):
            while len(after) < 3:
                after += await subscription.take(3, 0.05)
        assert {d.message_id for d in after} == {d.message_id for d in before}
        await subscription.ack(before)
        await subscription.reject(before)
        await subscription.close()
        await take(await broker.subscribe("seal", 10), {d.message_id for d in before})
        assert (await broker.depths())["quarantine"] == 0


async def test_a_publisher_is_told_when_the_network_is_cut(amqp_url: str, topology: Topology, proxy: TcpProxy) -> None:
    async with opened(proxy.on_the_way_to(amqp_url), topology) as broker:
        proxy.freeze()
        publishing = asyncio.create_task(broker.publish([step(1)]))
        await asyncio.wait({publishing}, timeout=0.1)
        await proxy.cut()
        with pytest.raises(DependencyDownError) as loss:
            await publishing
        assert loss.value.code == "broker.down"
        proxy.thaw()
        await publish_until_confirmed(broker, step(2))


async def test_waits_for_a_confirm_no_longer_than_it_says(amqp_url: str, topology: Topology, proxy: TcpProxy) -> None:
    timing = replace(QUICK, confirm=0.3, heartbeat=60)
    async with opened(proxy.on_the_way_to(amqp_url), topology, timing) as broker:
        proxy.freeze()
        with pytest.raises(DependencyDownError) as refusal:
            await asyncio.wait_for(broker.publish([step(n) for n in range(3000)]), PATIENCE)
        assert refusal.value.code == "broker.unconfirmed"
        proxy.thaw()
        await publish_until_confirmed(broker, step(1))


async def test_heartbeats_find_a_silent_peer(amqp_url: str, topology: Topology, proxy: TcpProxy) -> None:
    async with opened(proxy.on_the_way_to(amqp_url), topology, replace(QUICK, heartbeat=2)) as broker:
        subscription = await broker.subscribe("seal", 10)
        proxy.freeze()
        await asyncio.wait_for(proxy.accept_more(2), PATIENCE)
        proxy.thaw()
        await publish_until_confirmed(broker, step(1))
        await take(subscription, {"id-1"})


async def test_closing_does_not_hang_on_a_silent_broker(amqp_url: str, topology: Topology, proxy: TcpProxy) -> None:
    broker = RabbitBroker([proxy.on_the_way_to(amqp_url)], topology, timing=replace(QUICK, answer=0.2, heartbeat=60))
    await broker.open()
    await broker.subscribe("seal", 10)
    proxy.freeze()
    await asyncio.wait_for(broker.close(), PATIENCE)


async def test_closing_while_reconnecting_is_quick_and_clean(
    amqp_url: str, topology: Topology, proxy: TcpProxy
) -> None:
    broker = RabbitBroker([proxy.on_the_way_to(amqp_url)], topology, timing=replace(QUICK, connect=60))
    await broker.open()
    subscription = await broker.subscribe("seal", 10)
    proxy.freeze()
    await proxy.cut()
    await asyncio.wait_for(proxy.accept_more(2), PATIENCE)
    taking = asyncio.create_task(subscription.take(1, 0))
    await asyncio.wait_for(broker.close(), PATIENCE)
    assert await taking == []
    with pytest.raises(DependencyDownError, match="closed"):
        await broker.publish([step(1)])


async def test_declares_the_same_as_kombu_does(amqp_url: str, topology: Topology) -> None:
    """A 406 would say otherwise."""
    with Connection(amqp_url) as connection:
        channel = connection.channel()
        for queue in topology.queues().values():
            queue(channel).declare()
        for exchange in topology.exchanges():
            exchange(channel).declare()
    async with opened(amqp_url, topology):
        pass


async def test_mends_a_queue_that_was_deleted_under_its_consumer(amqp_url: str, topology: Topology) -> None:
    async with opened(amqp_url, topology) as broker:
        subscription = await broker.subscribe("seal", 10)
        with Connection(amqp_url) as connection:
            topology.queues()["seal"](connection.channel()).delete()
        await publish_until_confirmed(broker, step(1))
        await take(subscription, {"id-1"})


async def test_connects_to_the_second_broker_when_the_first_is_down(amqp_url: str, topology: Topology) -> None:
    nobody = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    broker = RabbitBroker([nobody, amqp_url], topology, timing=QUICK)
    await broker.open()
    await broker.publish([step(1)])
    await broker.close()


async def test_moves_to_the_second_broker_when_the_first_goes(
    amqp_url: str, topology: Topology, proxy: TcpProxy
) -> None:
    broker = RabbitBroker([proxy.on_the_way_to(amqp_url), amqp_url], topology, timing=QUICK)
    await broker.open()
    subscription = await broker.subscribe("seal", 10)
    await proxy.refuse()
    await proxy.cut()
    await publish_until_confirmed(broker, step(1))
    await take(subscription, {"id-1"})
    await broker.close()


async def test_says_when_no_broker_can_be_reached() -> None:
    broker = RabbitBroker([f"amqp://guest:guest@127.0.0.1:{free_port()}/"], Topology("nobody"), timing=QUICK)
    with pytest.raises(DependencyDownError, match=r"127\.0\.0\.1") as refusal:
        await broker.open()
    assert refusal.value.code == "broker.down"
    await broker.close()


@pytest.mark.parametrize("wrong", ["wrong-password", "no-such-vhost"])
async def test_says_that_access_is_refused_without_the_password(amqp_url: str, wrong: str) -> None:
    parts = urlsplit(amqp_url)
    url = {
        "wrong-password": f"amqp://guest:hush@{parts.hostname}:{parts.port}/",
        "no-such-vhost": f"amqp://guest:guest@{parts.hostname}:{parts.port}/no-such-vhost",
    }[wrong]
    broker = RabbitBroker([url], Topology("refused"), timing=QUICK)
    with pytest.raises(ConfigurationError) as refusal:
        await broker.open()
    assert refusal.value.code == "broker.access"
    assert "hush" not in str(refusal.value)
    await broker.close()


async def test_says_that_a_queue_exists_with_other_arguments(amqp_url: str, topology: Topology) -> None:
    async with opened(amqp_url, topology):
        pass
    other = RabbitBroker([amqp_url], replace(topology, delivery_limit=7), timing=QUICK)
    with pytest.raises(ConfigurationError, match="x-delivery-limit") as refusal:
        await other.open()
    assert refusal.value.code == "broker.topology"
    await other.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "amqps://localhost/?ssl_options={'cert_reqs':0}"])
def test_refuses_a_url_that_is_not_amqp_or_weakens_tls(url: str) -> None:
    with pytest.raises(ConfigurationError, match="without a query"):
        RabbitBroker([url], Topology())


async def test_a_full_queue_refuses_its_publisher(amqp_url: str, topology: Topology) -> None:
    async with opened(amqp_url, replace(topology, max_length=10)) as broker:
        with pytest.raises(DependencyDownError) as refusal:
            await publish_without_end(broker)
        assert refusal.value.code == "broker.unconfirmed"


async def test_after_a_refusal_publishes_on_another_channel_and_leaves_the_first(mortal_rabbit: PrivateRabbit) -> None:
    """A channel that RabbitMQ refused once while the queue had no leader is refused for ever."""
    topology = replace(Topology("refusing"), max_length=10)

    async def channels() -> set[str]:
        listed = await asyncio.to_thread(mortal_rabbit.ctl, "list_channels", "--no-table-headers", "pid")
        return set(listed.split())

    async with opened(mortal_rabbit.url, topology) as broker:
        await broker.publish([step(0)])
        (before,) = await channels()
        with pytest.raises(DependencyDownError, match="refused"):
            await publish_without_end(broker)
        subscription = await broker.subscribe("seal", 100)
        await subscription.ack(await subscription.take(100, 1))
        await publish_until_confirmed(broker, step(1))
        await take(subscription, {"id-1"})
        await subscription.close()
        (after,) = await channels()
    assert before != after


def test_works_on_uvloop(amqp_url: str, topology: Topology) -> None:
    async def scenario() -> None:
        async with opened(amqp_url, topology) as broker:
            subscription = await broker.subscribe("seal", 100)
            await broker.publish([step(n) for n in range(100)])
            await take(subscription, {f"id-{n}" for n in range(100)})

    uvloop.run(scenario())


async def test_tls_needs_an_authority_that_is_trusted(amqp_url: str, topology: Topology, tmp_path: Path) -> None:
    authority = PrivateCa(tmp_path)
    port = urlsplit(amqp_url).port or 5672
    async with TcpProxy(port, authority.server()) as good, TcpProxy(port, authority.server("elsewhere.example")) as bad:
        broker = RabbitBroker([good.on_the_way_to(amqp_url)], topology, ca_file=str(authority.ca_file))
        await broker.open()
        await broker.publish([step(1)])
        await broker.close()
        for url, ca_file in (
            (good.on_the_way_to(amqp_url), None),
            (bad.on_the_way_to(amqp_url), str(authority.ca_file)),
        ):
            broker = RabbitBroker([url], topology, ca_file=ca_file, timing=QUICK)
            with pytest.raises(DependencyDownError, match="certificate"):
                await broker.open()
            await broker.close()


async def test_consumers_that_start_together_share_one_connection(amqp_url: str, topology: Topology) -> None:
    broker = RabbitBroker([amqp_url], topology)
    await broker.open()
    try:
        with capture_logs() as logs:
            await asyncio.gather(*(broker.subscribe(queue, 10) for queue in ("authorise", "seal", "submit", "record")))
        assert [entry["role"] for entry in logs if entry["event"] == "broker.connected"] == ["consume"]
    finally:
        await broker.close()
