"""What a cluster of three nodes does to us: its queues move to another node, and a minority of it confirms nothing."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from kombu.connection import Connection

from pipeline.broker.channel import Timing
from pipeline.broker.port import Exchange, Outgoing
from pipeline.broker.producer import Producer
from pipeline.broker.pushing import UnconfirmedError
from pipeline.broker.rabbitmq import RabbitBroker
from pipeline.broker.topology import Topology
from pipeline.lodgment.errors import DependencyDownError
from tests.doubles.jobs import job
from tests.services.rabbitmq import PrivateCluster, PrivateRabbit

PATIENCE = 60.0
QUICK = Timing(connect=3, answer=5, confirm=4, heartbeat=4, first_delay=0.05, longest_delay=0.5)


@pytest.fixture(scope="module")
def cluster() -> Iterator[PrivateCluster]:
    """Each test leaves all of its nodes running."""
    nodes = PrivateCluster()
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.stop()


@contextlib.asynccontextmanager
async def opened(cluster: PrivateCluster, topology: Topology) -> AsyncIterator[RabbitBroker]:
    broker = RabbitBroker(cluster.urls, topology, timing=QUICK)
    await broker.open()
    try:
        yield broker
    finally:
        await broker.close()


def step(number: int) -> Outgoing:
    return Outgoing(Exchange.STEPS, "seal", b"synthetic", f"step-{number}")


async def publish_until_confirmed(broker: RabbitBroker, message: Outgoing) -> None:
    """As the runner does: the same again until it is confirmed."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(DependencyDownError):
                await broker.publish([message])
                return
            await asyncio.sleep(0.05)


def push_until_confirmed(producer: Producer, job_ids: Sequence[str]) -> None:
    """As the contract asks of a producer: what is not confirmed again, over the same `Producer`."""
    deadline = time.monotonic() + PATIENCE
    missing = job_ids
    while missing:
        if time.monotonic() > deadline:
            pytest.fail(f"not confirmed within {PATIENCE:g} s: {missing}")
        try:
            producer.push_many([job(job_id) for job_id in missing])
        except UnconfirmedError as error:
            missing = error.job_ids
        else:
            missing = []


def start_all(nodes: Sequence[PrivateRabbit]) -> None:
    with ThreadPoolExecutor(len(nodes)) as threads:
        for started in [threads.submit(node.start) for node in nodes]:
            started.result()


def taken(node: PrivateRabbit, topology: Topology, name: str) -> set[str]:
    """The ids of the messages in a queue."""
    with Connection(node.url) as connection:
        queue = topology.queues()[name](connection.channel())
        return {message.properties["message_id"] for message in iter(lambda: queue.get(no_ack=True), None)}


async def test_a_queue_that_moves_to_another_node_refuses_its_publishers_for_a_moment_only(
    cluster: PrivateCluster,
) -> None:
    topology = Topology("moving")
    moved = threading.Event()
    pushed, published = set[str](), set[str]()

    def push(producer: Producer) -> None:
        for number in count():
            push_until_confirmed(producer, [f"job-{number}"])
            pushed.add(f"job-{number}")
            if moved.is_set():
                return

    async def publish(broker: RabbitBroker) -> None:
        for number in count():
            await publish_until_confirmed(broker, step(number))
            published.add(f"step-{number}")
            if moved.is_set():
                return

    async with opened(cluster, topology) as broker:
        leader = cluster.leader_of("moving.receive", cluster.nodes[0])
        survivor = next(node for node in cluster.nodes if node is not leader)
        try:
            with Producer(cluster.urls, topology.namespace) as producer:
                both = asyncio.gather(publish(broker), asyncio.to_thread(push, producer))
                await asyncio.to_thread(leader.kill)
                moved.set()
                await both
        finally:
            await asyncio.to_thread(leader.start)
    assert pushed <= await asyncio.to_thread(taken, survivor, topology, "receive")
    assert published <= await asyncio.to_thread(taken, survivor, topology, "seal")


async def test_a_minority_confirms_nothing_and_nothing_that_was_confirmed_is_lost(cluster: PrivateCluster) -> None:
    topology = Topology("minority")
    job_ids = [f"job-{number}" for number in range(50)]
    async with opened(cluster, topology) as broker:
        with Producer(cluster.urls, topology.namespace, confirm_timeout=QUICK.confirm) as producer:
            await asyncio.to_thread(push_until_confirmed, producer, job_ids)
            await broker.publish([step(number) for number in range(50)])
            alone, *others = cluster.nodes
            for node in others:
                await asyncio.to_thread(node.kill)
            try:
                with pytest.raises(UnconfirmedError) as pushing:
                    await asyncio.to_thread(producer.push_many, [job("job-in-between-1"), job("job-in-between-2")])
                with pytest.raises(DependencyDownError) as publishing:
                    await broker.publish([step(50)])
            finally:
                await asyncio.to_thread(start_all, others)
            await asyncio.to_thread(push_until_confirmed, producer, pushing.value.job_ids)
            await publish_until_confirmed(broker, step(50))
    assert set(pushing.value.job_ids) == {"job-in-between-1", "job-in-between-2"}
    assert {pushing.value.code, publishing.value.code} == {"broker.unconfirmed"}
    received = await asyncio.to_thread(taken, alone, topology, "receive")
    assert received == {*job_ids, "job-in-between-1", "job-in-between-2"}
    assert await asyncio.to_thread(taken, alone, topology, "seal") == {f"step-{number}" for number in range(51)}
