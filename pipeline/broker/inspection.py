"""RabbitMQ looked at from outside: nothing is declared that is not there already, nothing reaches a queue."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from uuid import uuid4

import pika

from pipeline.broker.channel import BrokerRefusalError, Channel, Timing
from pipeline.broker.connection import Session, open_session, parameters
from pipeline.broker.topology import QUARANTINE, Topology
from pipeline.broker.urls import parts_of
from pipeline.lodgment.errors import DependencyDownError

_TIMING = Timing(connect=8, answer=4, blocked=10)
_AHEAD = 2.0
_NOT_FOUND = 404
_DEFAULT_PORTS = {"amqp": 5672, "amqps": 5671}

_Reply = Callable[[pika.frame.Method], None]


@dataclass(frozen=True, slots=True)
class BrokerView:
    """What was found. Names are as on the wire."""

    product: str
    version: str
    depths: Mapping[str, int]
    """Messages ready, per queue that is there."""
    quarantined: int
    absent: tuple[str, ...]
    """Exchanges and queues that nobody has declared yet; a worker does."""
    different: Mapping[str, str]
    """Exchanges and queues that exist with other arguments, or may not be used, and what the broker says."""
    alarm: str | None
    """Why publishers are held back (memory, disk); None when they are not."""
    took: float


def broker_address(url: str) -> tuple[str, int]:
    """Host and port in a broker's URL.

    Raises:
        ConfigurationError: `broker.url`.
    """
    parameters(url, _TIMING, None)
    parts = parts_of(url)
    return parts.hostname or "localhost", parts.port or _DEFAULT_PORTS[parts.scheme]


async def inspect(url: str, topology: Topology) -> BrokerView:
    """Look at one broker.

    Raises:
        DependencyDownError: it cannot be reached, or stops answering.
        ConfigurationError: `broker.url`, or `broker.access` when it refuses user, password or virtual host.
    """
    begun = monotonic()
    session = await _session(url)
    try:
        depths: dict[str, int] = {}
        absent: list[str] = []
        different: dict[str, str] = {}
        for exchange in topology.exchanges():
            await _compare(session, exchange.name, _exchange(exchange.name, exchange.type), absent, different)
        for short, queue in topology.queues().items():
            arguments = topology.queue_arguments(short)
            count = await _compare(session, queue.name, _queue(queue.name, arguments), absent, different)
            if count is not None:
                depths[queue.name] = count
        alarm = await _alarm(session)
        quarantined = depths.get(topology.queue_name(QUARANTINE), 0)
        took = monotonic() - begun
        return BrokerView(*session.server, depths, quarantined, tuple(absent), different, alarm, took)
    finally:
        await session.close()


async def ready(url: str, topology: Topology) -> dict[str, int | None]:
    """Messages ready, by the queue's short name; None for one that is not there.

    Raises:
        DependencyDownError: it cannot be reached, or stops answering.
        ConfigurationError: `broker.url`, or `broker.access` when it refuses user, password or virtual host.
    """
    session = await _session(url)
    try:
        return {str(short): await _ready(session, queue.name) for short, queue in topology.queues().items()}
    finally:
        await session.close()


async def _session(url: str) -> Session:
    target = parameters(url, _TIMING, None)
    # pika gives up first, and in order: cut off from outside in the middle of its handshake it reports a defect.
    target.socket_timeout = target.stack_timeout = _TIMING.connect - _AHEAD
    return await open_session(target, _TIMING)


async def _ready(session: Session, name: str) -> int | None:
    channel = await session.channel()
    try:
        found = await channel.ask(lambda reply: channel.raw.queue_declare(name, passive=True, callback=reply))
    except BrokerRefusalError as error:
        if error.reply_code != _NOT_FOUND:
            raise
        return None
    await channel.close()
    return int(found.method.message_count)


_Declare = Callable[[Channel, bool, _Reply], object]


def _exchange(name: str, kind: str) -> _Declare:
    def declare(channel: Channel, passive: bool, reply: _Reply) -> object:
        return channel.raw.exchange_declare(name, kind, passive=passive, durable=True, callback=reply)

    return declare


def _queue(name: str, arguments: Mapping[str, str | int]) -> _Declare:
    def declare(channel: Channel, passive: bool, reply: _Reply) -> object:
        wanted = None if passive else dict(arguments)
        return channel.raw.queue_declare(name, passive=passive, durable=True, arguments=wanted, callback=reply)

    return declare


async def _compare(
    session: Session, name: str, declare: _Declare, absent: list[str], different: dict[str, str]
) -> int | None:
    """Messages ready in a queue that is there. Asked for by name first, so that what is missing is not made.

    Only a declaration that is not passive compares arguments (AMQP 0-9-1, queue.declare); on what exists it changes
    nothing.
    """
    channel = await session.channel()
    try:
        found = await channel.ask(lambda reply: declare(channel, True, reply))
        await channel.ask(lambda reply: declare(channel, False, reply))
    except BrokerRefusalError as error:
        if error.reply_code == _NOT_FOUND:
            absent.append(name)
        else:
            different[name] = f"{error.reply_code} {error.reply_text}"
        return None
    await channel.close()
    return getattr(found.method, "message_count", None)


async def _alarm(session: Session) -> str | None:
    """Why the broker holds publishers back.

    It tells only those that publish, so one message goes to the default exchange for a queue that does not exist,
    which drops it. A broker in alarm reads nothing more from then on; one that answers the next request is well.
    """
    blocked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    session.on_blocked(lambda reason: None if blocked.done() else blocked.set_result(reason))
    channel = await session.channel()
    channel.raw.basic_publish("", f"lodge-doctor-{uuid4()}", b"")
    asked = asyncio.create_task(channel.ask(lambda reply: channel.raw.basic_qos(prefetch_count=1, callback=reply)))
    await asyncio.wait({blocked, asked}, return_when=asyncio.FIRST_COMPLETED)
    if blocked.done():
        asked.cancel()
        return blocked.result()
    try:
        asked.result()
    except BrokerRefusalError:
        return None  # this user may not publish to the default exchange: nothing is known, and nothing depends on it
    except DependencyDownError as error:
        return str(error)
    await channel.close()
    return None
