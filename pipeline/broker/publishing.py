"""Publishing with pipelined confirms: a window of unconfirmed messages, returns noticed, every wait bounded."""

import asyncio
from collections.abc import Sequence

import pika
import structlog
from pika.exceptions import AMQPError

from pipeline.broker.channel import Channel, Timing, down, settle
from pipeline.broker.connection import Link
from pipeline.broker.port import Outgoing
from pipeline.broker.topology import MESSAGE_TYPES, Topology
from pipeline.lodgment.errors import DependencyDownError

log = structlog.get_logger()


class _Batch:
    """One call of `publish`: how many confirms are missing, and what went wrong."""

    def __init__(self, size: int) -> None:
        self.missing = size
        self.nacked: list[str] = []
        self.unroutable: list[str] = []
        self.settled: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()


class Publisher:
    """Publishes on one channel in confirm mode; when that is lost, on the next one."""

    def __init__(self, link: Link, topology: Topology, timing: Timing, window: int) -> None:
        self._link = link
        self._topology = topology
        self._timing = timing
        self._window = window
        self._channel: _ConfirmingChannel | None = None
        self._opening = asyncio.Lock()

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """As the port says."""
        if not messages:
            return
        batch = _Batch(len(messages))
        channel = None
        try:
            async with asyncio.timeout(self._timing.confirm):
                channel = await self._ready()
                await channel.send(messages, batch)
                lost = await batch.settled
        except TimeoutError as error:
            if channel is not None:
                channel.drop()
            raise DependencyDownError(
                "broker.unconfirmed",
                f"{batch.missing} of {len(messages)} messages were not confirmed within {self._timing.confirm:g} s",
            ) from error
        if lost is not None:
            raise down(lost) from lost
        if batch.unroutable:
            raise DependencyDownError("broker.unroutable", f"no queue takes {batch.unroutable[0]}")
        if batch.nacked:
            raise DependencyDownError("broker.unconfirmed", f"the broker refused {', '.join(batch.nacked[:10])}")

    async def _ready(self) -> "_ConfirmingChannel":
        async with self._opening:
            if self._channel is None or not self._channel.usable:
                session = await self._link.session()
                channel = _ConfirmingChannel(await session.channel(), self._topology, self._window)
                await channel.select()
                self._channel = channel
            return self._channel


class _ConfirmingChannel:
    """The broker numbers what is published on a channel from 1 and confirms by number, often several at once."""

    def __init__(self, channel: Channel, topology: Topology, window: int) -> None:
        self._channel = channel
        self._exchange_names = {exchange: topology.exchange_name(exchange) for exchange in MESSAGE_TYPES}
        self._window = window
        self._number = 0
        self._pending: dict[int, tuple[_Batch, Outgoing]] = {}
        self._room = asyncio.Event()
        self._refused = False
        channel.raw.add_on_return_callback(self._on_return)
        channel.lost.add_done_callback(self._on_lost)

    @property
    def usable(self) -> bool:
        """Whether to publish more on it: a channel that was refused once may be refused for ever (decision 32)."""
        return bool(self._channel.raw.is_open) and not self._refused

    async def select(self) -> None:
        await self._channel.ask(lambda reply: self._channel.raw.confirm_delivery(self._on_confirm, reply))

    async def send(self, messages: Sequence[Outgoing], batch: _Batch) -> None:
        for message in messages:
            while len(self._pending) >= self._window:
                self._room.clear()
                await self._room.wait()
            self._number += 1
            self._pending[self._number] = batch, message
            try:
                self._channel.raw.basic_publish(
                    self._exchange_names[message.exchange],
                    message.routing_key,
                    message.body,
                    _properties(message),
                    mandatory=message.mandatory,
                )
            except AMQPError as error:
                raise down(error) from error

    def drop(self) -> None:
        self._channel.drop()

    def _on_confirm(self, frame: pika.frame.Method) -> None:
        number, refused = frame.method.delivery_tag, isinstance(frame.method, pika.spec.Basic.Nack)
        if frame.method.multiple:
            # Numbers are handed out in rising order, and a dict keeps it.
            numbers = []
            for each in self._pending:
                if each > number:
                    break
                numbers.append(each)
        else:
            numbers = [number]
        for each in numbers:
            batch, message = self._pending.pop(each)
            if refused:
                self._refused = True
                batch.nacked.append(message.message_id)
            batch.missing -= 1
            if batch.missing == 0:
                settle(batch.settled, None)
        self._room.set()
        if self._refused and not self._pending:
            self.drop()

    def _on_return(self, _: object, __: object, properties: pika.BasicProperties, ___: bytes) -> None:
        """A return comes before the confirm of the same message, so the message is still pending."""
        for batch, message in self._pending.values():
            if message.message_id == properties.message_id and message.mandatory:
                batch.unroutable.append(f"{message.message_id} ({message.exchange}, {message.routing_key})")

    def _on_lost(self, lost: asyncio.Future[Exception]) -> None:
        for batch, _ in self._pending.values():
            settle(batch.settled, lost.result())
        self._pending.clear()
        self._room.set()


def _properties(message: Outgoing) -> pika.BasicProperties:
    return pika.BasicProperties(
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent.value,
        message_id=message.message_id,
        priority=message.priority,
        type=MESSAGE_TYPES[message.exchange],
        headers=message.headers or None,
    )
