"""The broker inside one process, on kombu's memory transport: nothing to install, nothing kept; the ledger lasts."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import uuid4

from kombu import entity
from kombu.connection import Connection
from kombu.transport.virtual import Channel, Message

from pipeline.broker.port import Delivery, Exchange, Outgoing, Subscription
from pipeline.broker.topology import MESSAGE_TYPES, Topology
from pipeline.lodgment.errors import DependencyDownError

_LISTENING_PREFETCH = 1000

_COUNT = "x-delivery-count"


class EmbeddedBroker:
    """Answers as RabbitMQ does, within one event loop.

    The memory transport keeps its queues in the process, by name: each broker takes a namespace of its own, so that two
    never meet.
    """

    def __init__(self, topology: Topology | None = None) -> None:
        base = topology or Topology()
        self._topology = replace(base, namespace=f"{base.namespace}.{uuid4().hex}")
        self._connection = Connection("memory://", transport_options={"body_encoding": None})
        self._queues: _Queues | None = None
        self._subscriptions: list[_EmbeddedSubscription] = []

    async def open(self) -> None:
        self._queues = _Queues(self._connection.channel(), self._topology)

    async def close(self) -> None:
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()
        if self._queues is not None:
            self._queues.delete()
            self._queues = None
        self._connection.release()

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        queues = self._live()
        unroutable = [message for message in messages if not queues.route(message) and message.mandatory]
        self._wake()
        if unroutable:
            first = unroutable[0]
            raise DependencyDownError(
                "broker.unroutable", f"no queue takes {first.message_id} ({first.exchange}, {first.routing_key})"
            )
        # Publishing to memory never waits; a stage that only publishes must still let the others run.
        await asyncio.sleep(0)

    async def subscribe(self, queue: str, prefetch: int) -> Subscription:
        return self._subscription(self._topology.queue_name(queue), prefetch, lambda: None)

    async def listen(self, pattern: str) -> Subscription:
        queues = self._live()
        queue = queues.bind_listener(pattern)
        return self._subscription(queue.name, _LISTENING_PREFETCH, lambda: queues.unbind_listener(queue))

    async def depths(self) -> dict[str, int]:
        queues = self._live()
        return {str(name): queues.depth(queue.name) for name, queue in self._topology.queues().items()}

    def _subscription(self, queue: str, prefetch: int, on_close: Callable[[], None]) -> Subscription:
        subscription = _EmbeddedSubscription(self._live(), queue, prefetch, self._wake, on_close)
        self._subscriptions.append(subscription)
        return subscription

    def _wake(self) -> None:
        for subscription in self._subscriptions:
            subscription.look()

    def _live(self) -> "_Queues":
        if self._queues is None:
            raise DependencyDownError("broker.down", "the embedded broker is not open")
        return self._queues


class _Queues:
    """The declared topology on one channel, and what a quorum queue does that the memory transport does not."""

    def __init__(self, channel: Channel, topology: Topology) -> None:
        self._channel = channel
        self._topology = topology
        self._limits = {topology.queue_name(name): topology.limit_of(name) for name in topology.queues()}
        for exchange in topology.exchanges():
            exchange(channel).declare()
        for queue in topology.queues().values():
            queue(channel).declare()

    def delete(self) -> None:
        for queue in self._topology.queues().values():
            queue(self._channel).delete()
        for exchange in self._topology.exchanges():
            exchange(self._channel).delete()

    def route(self, message: Outgoing) -> bool:
        """Whether any queue took it."""
        name = self._topology.exchange_name(message.exchange)
        kind = self._channel.typeof(name)
        if not kind.lookup(self._channel.get_table(name), name, message.routing_key, None):
            return False
        raw = self._channel.prepare_message(
            message.body,
            message.priority,
            content_type="application/json",
            headers=dict(message.headers),
            properties={"message_id": message.message_id, "type": MESSAGE_TYPES[message.exchange]},
        )
        self._channel.basic_publish(raw, name, message.routing_key)
        return True

    def get(self, queue: str) -> Message | None:
        message: Message | None = self._channel.basic_get(queue, no_ack=True)
        return message

    def depth(self, queue: str) -> int:
        return int(self._channel.queue_declare(queue, passive=True).message_count)

    def give_back(self, queue: str, message: Message) -> None:
        """To the queue's end, with its count; over the delivery limit, to quarantine."""
        count = int(message.headers.get(_COUNT, 0)) + 1
        if count > self._limits.get(queue, count):
            self.quarantine(queue, message, "delivery_limit")
            return
        raw = message.serializable()
        raw["headers"][_COUNT] = count
        self._channel.basic_publish(raw, "", queue)

    def quarantine(self, queue: str, message: Message, reason: str) -> None:
        if queue not in self._limits:
            return  # a listener's queue has no dead-letter exchange
        raw = message.serializable()
        raw["headers"].pop(_COUNT, None)
        raw["headers"].setdefault("x-first-death-queue", queue)
        raw["headers"].setdefault("x-first-death-reason", reason)
        self._channel.basic_publish(
            raw, self._topology.exchange_name(Exchange.DEAD), message.delivery_info["routing_key"]
        )

    def bind_listener(self, pattern: str) -> entity.Queue:
        exchange = self._topology.exchange(Exchange.OUTCOMES)
        queue = entity.Queue(f"{self._topology.namespace}.{uuid4().hex}", exchange, routing_key=pattern)(self._channel)
        queue.declare()
        return queue

    def unbind_listener(self, queue: entity.Queue) -> None:
        queue.delete()
        # The transport deletes a queue and leaves it in its exchange's table, where the next message would revive it.
        queue.unbind_from(queue.exchange, queue.routing_key)


class _EmbeddedSubscription:
    """Takes from the queue only what is asked for: what is unacknowledged is in hand, never prefetched."""

    def __init__(
        self, queues: _Queues, queue: str, prefetch: int, wake: Callable[[], None], on_close: Callable[[], None]
    ) -> None:
        self._queues = queues
        self._queue = queue
        self._prefetch = prefetch
        self._wake = wake
        self._on_close = on_close
        self._in_hand: dict[object, Message] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def look(self) -> None:
        self._changed.set()

    async def take(self, limit: int, linger: float) -> list[Delivery]:
        taken: list[Delivery] = []
        while not taken and not self._closed:
            await self._until(1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(linger):
                    await self._until(min(limit, self._prefetch - len(self._in_hand)))
            taken = self._take_now(limit)
        return taken

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._settle(deliveries)

    async def reject(self, deliveries: Sequence[Delivery]) -> None:
        for message in self._settle(deliveries):
            self._queues.quarantine(self._queue, message, "rejected")
        self._wake()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for message in self._in_hand.values():
            self._queues.give_back(self._queue, message)
        self._in_hand.clear()
        self._on_close()
        self._wake()

    def _take_now(self, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        while len(taken) < limit and len(self._in_hand) < self._prefetch and not self._closed:
            message = self._queues.get(self._queue)
            if message is None:
                break
            token = object()
            self._in_hand[token] = message
            headers = {name: str(value) for name, value in message.headers.items()}
            taken.append(Delivery(message.body, message.properties["message_id"], headers, _COUNT in headers, token))
        return taken

    async def _until(self, wanted: int) -> None:
        while not self._closed:
            room = self._prefetch - len(self._in_hand)
            if min(room, self._queues.depth(self._queue)) >= wanted:
                return
            self._changed.clear()
            await self._changed.wait()

    def _settle(self, deliveries: Sequence[Delivery]) -> list[Message]:
        settled = [self._in_hand.pop(delivery.token) for delivery in deliveries if delivery.token in self._in_hand]
        self._changed.set()
        return settled
