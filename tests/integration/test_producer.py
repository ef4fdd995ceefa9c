"""The producer that payroll applications use, against a real broker."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kombu.connection import Connection
from kombu.message import Message

from pipeline.broker.producer import Producer
from pipeline.broker.pushing import UnconfirmedError
from pipeline.broker.topology import Topology
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.job import JobRefusedError, LodgmentJob, read_job
from tests.doubles.private_ca import PrivateCa
from tests.doubles.tcp_proxy import TcpProxy
from tests.services.processes import free_port
from tests.services.rabbitmq import PrivateRabbit


def job(number: int | str, priority: int = 5) -> LodgmentJob:
    """A synthetic job."""
    return LodgmentJob.model_validate(
        {
            "job_id": f"job-{number}",
            "channel": "asic_bn",
            "service": "business-names",
            "action": "bnLodgeApplication",
            "sender": {"id": "12345", "type": "REGA"},
            "employer": {"abn": "51824753556"},
            "payload": {"inline": "<synthetic/>"},
            "priority": priority,
        }
    )


def ids(numbers: Iterable[int]) -> set[str]:
    return {f"job-{number}" for number in numbers}


def declare(url: str, topology: Topology) -> None:
    """As a worker does when it starts."""
    with Connection(url) as connection:
        channel = connection.channel()
        for queue in topology.queues().values():
            queue(channel).declare()


def received(url: str, topology: Topology) -> list[Message]:
    """What is in the queue, taken out of it."""
    with Connection(url) as connection:
        queue = topology.queues()["receive"](connection.channel())
        return list(iter(lambda: queue.get(no_ack=True), None))


def received_ids(url: str, topology: Topology) -> set[str]:
    return {message.properties["message_id"] for message in received(url, topology)}


@pytest.fixture
def namespace(amqp_url: str, topology: Topology) -> str:
    declare(amqp_url, topology)
    return topology.namespace


@pytest.fixture
def producer(amqp_url: str, namespace: str) -> Iterator[Producer]:
    with Producer([amqp_url], namespace) as made:
        yield made


@asynccontextmanager
async def beside_the_loop(producer: Producer) -> AsyncIterator[Producer]:
    """Closed in a thread: the proxy in between runs on this loop."""
    try:
        yield producer
    finally:
        await asyncio.to_thread(producer.close)


def test_a_pushed_job_is_a_persistent_message_that_says_what_it_is(
    producer: Producer, amqp_url: str, topology: Topology
) -> None:
    producer.push(job(1, priority=7))
    (message,) = received(amqp_url, topology)
    assert read_job(message.body) == job(1, priority=7)
    assert message.content_type == "application/json"
    properties = message.properties
    assert (properties["message_id"], properties["type"]) == ("job-1", "lodgment-job.v1")
    assert (properties["delivery_mode"], properties["priority"]) == (2, 7)
    assert message.delivery_info["routing_key"] == "receive"


@pytest.mark.parametrize("kind", [str, bytes])
def test_json_is_sent_to_the_byte(
    producer: Producer, amqp_url: str, topology: Topology, kind: type[str] | type[bytes]
) -> None:
    text = " " + job(1).model_dump_json(exclude_none=True, indent=1)
    producer.push(text if kind is str else text.encode())
    assert [message.body for message in received(amqp_url, topology)] == [text.encode()]


def test_a_job_that_breaks_the_contract_is_refused_after_those_before_it_are_confirmed(
    producer: Producer, amqp_url: str, topology: Topology
) -> None:
    bad = job(3).model_dump(mode="json", exclude_none=True) | {"priority": 99}
    confirmed: list[str] = []
    with pytest.raises(JobRefusedError, match="priority") as refusal:
        producer.push_many([job(1), job(2), json.dumps(bad), job(4)], on_confirmed=confirmed.append)
    assert refusal.value.job_id == "job-3"
    assert set(confirmed) == received_ids(amqp_url, topology) == ids([1, 2])
    producer.push(job(4))


def test_a_raw_job_is_sent_unread(producer: Producer, amqp_url: str, topology: Topology) -> None:
    producer.push(b"\xff not a job", raw=True)
    producer.push('{"job_id": "seen"}', raw=True)
    assert [message.body for message in received(amqp_url, topology)] == [b"\xff not a job", b'{"job_id": "seen"}']


def test_every_job_of_many_is_confirmed_and_arrives_once(producer: Producer, amqp_url: str, topology: Topology) -> None:
    confirmed: list[str] = []
    producer.push_many((job(n) for n in range(2000)), on_confirmed=confirmed.append)
    arrived = [message.properties["message_id"] for message in received(amqp_url, topology)]
    assert sorted(confirmed) == sorted(arrived) == sorted(ids(range(2000)))


def test_reads_no_further_ahead_than_the_window(producer: Producer) -> None:
    confirmed: list[str] = []
    ahead: list[int] = []

    def jobs() -> Iterator[LodgmentJob]:
        for n in range(300):
            ahead.append(n - len(confirmed))
            yield job(n)

    producer.push_many(jobs(), window=10, on_confirmed=confirmed.append)
    assert max(ahead) < 10


def test_threads_share_a_producer(producer: Producer, amqp_url: str, topology: Topology) -> None:
    def push(first: int) -> None:
        producer.push(job(first))
        producer.push_many([job(n) for n in range(first + 1, first + 50)])

    threads = [threading.Thread(target=push, args=(50 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert received_ids(amqp_url, topology) == ids(range(400))


def test_a_forked_child_has_its_own_connection(producer: Producer, amqp_url: str, topology: Topology) -> None:
    producer.push(job(0))
    child = os.fork()
    if child == 0:
        # Whatever happens, the child must not go on into the parent's tests.
        code = 1
        try:
            producer.push_many([job(n) for n in range(1, 50)])
            producer.close()
            code = 0
        finally:
            os._exit(code)
    producer.push_many([job(n) for n in range(50, 100)])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    producer.push(job(100))
    assert received_ids(amqp_url, topology) == ids(range(101))


def test_pushing_from_the_confirm_callback_is_refused(producer: Producer) -> None:
    with pytest.raises(RuntimeError, match="on_confirmed"):
        producer.push_many([job(1)], on_confirmed=lambda _: producer.push(job(2)))
    producer.push(job(3))


def test_goes_to_the_second_url_when_the_first_is_down(amqp_url: str, namespace: str, topology: Topology) -> None:
    nobody = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    with Producer([nobody, amqp_url], namespace) as producer:
        producer.push(job(1))
    assert received_ids(amqp_url, topology) == ids([1])


async def test_moves_to_the_second_url_in_the_middle_of_many(
    amqp_url: str, namespace: str, topology: Topology, proxy: TcpProxy
) -> None:
    loop = asyncio.get_running_loop()
    confirmed: list[str] = []

    async def leave() -> None:
        await proxy.refuse()
        await proxy.cut()

    def on_confirmed(job_id: str) -> None:
        confirmed.append(job_id)
        if len(confirmed) == 500:
            asyncio.run_coroutine_threadsafe(leave(), loop).result(30)

    with Producer([proxy.on_the_way_to(amqp_url), amqp_url], namespace) as producer:
        jobs = [job(n) for n in range(1000)]
        await asyncio.to_thread(producer.push_many, jobs, on_confirmed=on_confirmed)
    assert sorted(confirmed) == sorted(ids(range(1000)))
    assert received_ids(amqp_url, topology) == ids(range(1000))


async def test_a_connection_that_died_while_idle_costs_the_caller_nothing(
    amqp_url: str, namespace: str, topology: Topology, proxy: TcpProxy
) -> None:
    async with beside_the_loop(Producer([proxy.on_the_way_to(amqp_url)], namespace)) as producer:
        await asyncio.to_thread(producer.push, job(1))
        await proxy.cut()
        await asyncio.to_thread(producer.push, job(2))
    assert received_ids(amqp_url, topology) == ids([1, 2])


async def test_waits_for_confirms_no_longer_than_it_says(
    amqp_url: str, namespace: str, topology: Topology, proxy: TcpProxy
) -> None:
    url = proxy.on_the_way_to(amqp_url)
    async with beside_the_loop(Producer([url], namespace, confirm_timeout=0.3)) as producer:
        await asyncio.to_thread(producer.push, job(0))
        proxy.freeze()
        with pytest.raises(UnconfirmedError) as refusal:
            await asyncio.to_thread(producer.push_many, [job(n) for n in range(1, 8)], window=5)
        assert refusal.value.code == "broker.unconfirmed"
        assert set(refusal.value.job_ids) == ids(range(1, 8))
        proxy.thaw()
        await asyncio.to_thread(producer.push_many, [job(n) for n in range(1, 8)])
    assert received_ids(amqp_url, topology) == ids(range(8))


def test_names_what_is_unconfirmed_when_the_broker_is_killed(mortal_rabbit: PrivateRabbit) -> None:
    topology = Topology("producer-and-killed-broker")
    declare(mortal_rabbit.url, topology)
    confirmed: list[str] = []

    def on_confirmed(job_id: str) -> None:
        confirmed.append(job_id)
        if len(confirmed) == 500:
            mortal_rabbit.kill()

    with Producer([mortal_rabbit.url], topology.namespace) as producer:
        try:
            with pytest.raises(UnconfirmedError) as refusal:
                producer.push_many((job(n) for n in range(2000)), on_confirmed=on_confirmed)
        finally:
            mortal_rabbit.start()
        unconfirmed = refusal.value.job_ids
        assert refusal.value.code == "broker.down"
        assert set(unconfirmed) == ids(range(2000)) - set(confirmed)
        assert len(unconfirmed) == 2000 - len(confirmed)
        producer.push_many(job(job_id.removeprefix("job-")) for job_id in unconfirmed)
    assert received_ids(mortal_rabbit.url, topology) == ids(range(2000))


def test_says_that_nobody_declared_the_namespace(amqp_url: str) -> None:
    with Producer([amqp_url], "nobody-declared-this") as producer, pytest.raises(UnconfirmedError) as refusal:
        producer.push_many([job(1), job(2)])
    assert (refusal.value.code, refusal.value.job_ids) == ("broker.unroutable", ("job-1", "job-2"))


def test_says_that_no_queue_takes_the_job(producer: Producer, amqp_url: str, topology: Topology) -> None:
    with Connection(amqp_url) as connection:
        topology.queues()["receive"](connection.channel()).delete()
    with pytest.raises(UnconfirmedError) as refusal:
        producer.push_many([job(1), job(2), job(3)], window=2)
    assert refusal.value.code == "broker.unroutable"
    assert set(refusal.value.job_ids) == ids([1, 2, 3])
    declare(amqp_url, topology)
    producer.push(job(1))


def test_names_the_jobs_that_a_full_queue_refused(amqp_url: str, topology: Topology) -> None:
    small = replace(topology, max_length=20)
    declare(amqp_url, small)
    confirmed: list[str] = []
    with Producer([amqp_url], topology.namespace) as producer, pytest.raises(UnconfirmedError) as refusal:
        producer.push_many((job(n) for n in range(500)), window=10, on_confirmed=confirmed.append)
    assert refusal.value.code == "broker.unconfirmed"
    assert set(refusal.value.job_ids) == ids(range(500)) - set(confirmed)
    assert set(confirmed) <= received_ids(amqp_url, small)


def test_after_a_refusal_pushes_over_another_channel_of_its_connection(mortal_rabbit: PrivateRabbit) -> None:
    """A channel that RabbitMQ refused once while the queue had no leader is refused for ever."""
    small = replace(Topology("producer-and-full-queue"), max_length=20)
    declare(mortal_rabbit.url, small)
    with Producer([mortal_rabbit.url], small.namespace) as producer:
        producer.push(job("first"))
        connection, channel = mortal_rabbit.ctl("list_channels", "--no-table-headers", "connection", "pid").split()
        with pytest.raises(UnconfirmedError, match="refused"):
            producer.push_many((job(n) for n in range(500)), window=10)
        received(mortal_rabbit.url, small)
        producer.push(job("last"))
        same, other = mortal_rabbit.ctl("list_channels", "--no-table-headers", "connection", "pid").split()
    assert received_ids(mortal_rabbit.url, small) == {"job-last"}
    assert (connection, channel != other) == (same, True)


def test_says_when_no_broker_can_be_reached() -> None:
    nobody = f"amqp://guest:hush@127.0.0.1:{free_port()}/"
    with Producer([nobody]) as producer, pytest.raises(UnconfirmedError, match="job-1") as refusal:
        producer.push(job(1))
    assert refusal.value.code == "broker.down"
    assert "hush" not in str(refusal.value)


def test_says_that_access_is_refused(amqp_url: str) -> None:
    wrong = amqp_url.replace("guest:guest", "guest:hush")
    with Producer([wrong]) as producer, pytest.raises(ConfigurationError) as refusal:
        producer.push(job(1))
    assert refusal.value.code == "broker.access"
    assert "hush" not in str(refusal.value)


async def test_tls_needs_an_authority_that_is_trusted(
    amqp_url: str, namespace: str, topology: Topology, tmp_path: Path
) -> None:
    authority = PrivateCa(tmp_path)
    async with TcpProxy(urlsplit(amqp_url).port or 5672, authority.server()) as proxy:
        url = proxy.on_the_way_to(amqp_url)
        async with beside_the_loop(Producer([url], namespace, ca_file=str(authority.ca_file))) as producer:
            await asyncio.to_thread(producer.push, job(1))
        with pytest.raises(UnconfirmedError, match="certificate"):
            await asyncio.to_thread(Producer([url], namespace).push, job(2))
    async with TcpProxy(urlsplit(amqp_url).port or 5672, authority.server("elsewhere.example")) as proxy:
        url = proxy.on_the_way_to(amqp_url)
        with pytest.raises(UnconfirmedError, match="certificate"):
            await asyncio.to_thread(Producer([url], namespace, ca_file=str(authority.ca_file)).push, job(3))
    assert received_ids(amqp_url, topology) == ids([1])
