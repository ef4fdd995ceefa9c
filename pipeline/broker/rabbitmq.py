"""The broker on RabbitMQ: pika's asyncio adapter, so that one loop serves heartbeats, deliveries and confirms."""

from collections.abc import Sequence

from kombu import entity

from pipeline.broker.channel import BrokerRefusalError, Channel, Timing
from pipeline.broker.connection import Link, Session
from pipeline.broker.consuming import RabbitSubscription, Source
from pipeline.broker.port import Exchange, Outgoing, Subscription
from pipeline.broker.publishing import Publisher
from pipeline.broker.topology import Topology
from pipeline.lodgment.errors import ConfigurationError

_WILL_NOT_MEND = frozenset({403, 406})
"""Reply codes ACCESS_REFUSED and PRECONDITION_FAILED."""

_TRANSIENT = {"x-queue-type": "classic"}
"""A virtual host may make quorum queues the default, and those cannot be exclusive."""

_LISTENING_PREFETCH = 1000


class RabbitBroker:
    """Two connections: a broker short of memory or disk holds back those that publish, and acks must still get through.

    `urls` are tried in order. `window` bounds what is published and not yet confirmed.
    """

    def __init__(
        self,
        urls: Sequence[str],
        topology: Topology,
        *,
        timing: Timing | None = None,
        window: int = 1000,
        ca_file: str | None = None,
    ) -> None:
        self._topology = topology
        self._timing = timing or Timing()
        self._outward = Link("publish", urls, self._declare, self._timing, ca_file)
        self._inward = Link("consume", urls, self._declare, self._timing, ca_file)
        self._publisher = Publisher(self._outward, topology, self._timing, window)
        self._subscriptions: list[RabbitSubscription] = []

    async def open(self) -> None:
        """Connect and declare the topology.

        Raises:
            DependencyDownError: no URL could be reached.
            ConfigurationError: `broker.access` or `broker.topology`.
        """
        await self._outward.open()

    async def close(self) -> None:
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()
        await self._inward.close()
        await self._outward.close()

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        await self._publisher.publish(messages)

    async def subscribe(self, queue: str, prefetch: int) -> Subscription:
        name = self._topology.queue_name(queue)

        async def source(session: Session, _: Channel) -> str:
            await self._declare(session)
            return name

        return await self._subscription(source, prefetch)

    async def listen(self, pattern: str) -> Subscription:
        exchange = self._topology.exchange_name(Exchange.OUTCOMES)

        async def source(_: Session, channel: Channel) -> str:
            answer = await channel.ask(
                lambda reply: channel.raw.queue_declare("", exclusive=True, arguments=_TRANSIENT, callback=reply)
            )
            queue = str(answer.method.queue)
            await channel.ask(lambda reply: channel.raw.queue_bind(queue, exchange, pattern, callback=reply))
            return queue

        return await self._subscription(source, _LISTENING_PREFETCH)

    async def depths(self) -> dict[str, int]:
        channel = await (await self._outward.session()).channel()
        try:
            return {str(name): await _depth(channel, queue.name) for name, queue in self._topology.queues().items()}
        finally:
            await channel.close()

    async def _subscription(self, source: Source, prefetch: int) -> Subscription:
        await self._inward.open()
        subscription = RabbitSubscription(self._inward, source, prefetch, self._timing)
        await subscription.open()
        self._subscriptions.append(subscription)
        return subscription

    async def _declare(self, session: Session) -> None:
        channel = await session.channel()
        try:
            for exchange in self._topology.exchanges():
                await _declare_exchange(channel, exchange)
            for name, queue in self._topology.queues().items():
                await _declare_queue(channel, queue, self._topology.queue_arguments(name))
        except BrokerRefusalError as error:
            if error.reply_code not in _WILL_NOT_MEND:
                raise
            raise ConfigurationError(
                "broker.topology",
                f"namespace {self._topology.namespace!r} exists with other arguments, or this user may not declare it"
                f" ({error.reply_text}): drain and delete the queue, or choose another namespace",
            ) from error
        await channel.close()


async def _depth(channel: Channel, queue: str) -> int:
    answer = await channel.ask(lambda reply: channel.raw.queue_declare(queue, passive=True, callback=reply))
    return int(answer.method.message_count)


async def _declare_exchange(channel: Channel, exchange: entity.Exchange) -> None:
    await channel.ask(
        lambda reply: channel.raw.exchange_declare(exchange.name, exchange.type, durable=True, callback=reply)
    )


async def _declare_queue(channel: Channel, queue: entity.Queue, arguments: dict[str, str | int]) -> None:
    await channel.ask(
        lambda reply: channel.raw.queue_declare(queue.name, durable=True, arguments=arguments, callback=reply)
    )
    await channel.ask(
        lambda reply: channel.raw.queue_bind(queue.name, queue.exchange.name, queue.routing_key, callback=reply)
    )
