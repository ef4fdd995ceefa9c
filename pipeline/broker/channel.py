"""One AMQP channel: pika speaks in callbacks, here they become awaitables that end when the channel does."""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import pika
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError

from pipeline.lodgment.errors import DependencyDownError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. No wait in the broker's clients is longer than one of these, but for a `take` on an empty queue."""

    connect: float = 10.0
    """For TCP, TLS and the AMQP handshake with one URL."""
    answer: float = 15.0
    """For the reply to one request: opening a channel, declaring, consuming."""
    confirm: float = 30.0
    """For all confirms of one `publish`; not below the heartbeat, or a dead peer is never the reason given."""
    heartbeat: int = 20
    blocked: float = 60.0
    """How long the broker may hold this connection back (memory or disk alarm) before it is given up."""
    first_delay: float = 0.2
    longest_delay: float = 15.0

    def delays(self) -> Iterator[float]:
        """Waits between tries: doubling, bounded, each cut at random so that a crowd does not return at once."""
        delay = self.first_delay
        while True:
            yield delay * random.uniform(0.5, 1)  # noqa: S311 - spreads load, guards nothing
            delay = min(delay * 2, self.longest_delay)


class BrokerRefusalError(DependencyDownError):
    """The broker closed the channel over a request: `reply_code` and `reply_text` say why (AMQP 0-9-1, 1.2)."""

    def __init__(self, reply_code: int, reply_text: str) -> None:
        super().__init__("broker.down", f"the broker refused a request: {reply_code} {reply_text}")
        self.reply_code = reply_code
        self.reply_text = reply_text


class Channel:
    """One AMQP channel. `lost` is done, with the reason as its result, once the channel is closed by whomever."""

    def __init__(self, connection: AsyncioConnection, timing: Timing) -> None:
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[Exception] = loop.create_future()
        self._opened: asyncio.Future[pika.frame.Method] = loop.create_future()
        self._timing = timing
        try:
            self.raw = connection.channel(on_open_callback=lambda _: settle(self._opened, None))
        except AMQPError as error:
            raise down(error) from error
        self.raw.add_on_close_callback(lambda _, reason: settle(self.lost, reason))

    async def open(self) -> None:
        await self._first(self._opened)

    async def ask(self, send: Callable[[Callable[[pika.frame.Method], None]], object]) -> pika.frame.Method:
        """The reply to a request; `send` makes the request and is given the callback for its reply.

        Raises:
            DependencyDownError: the channel or connection was lost, or no reply came in time.
            BrokerRefusalError: the broker closed the channel over it.
        """
        reply: asyncio.Future[pika.frame.Method] = asyncio.get_running_loop().create_future()
        try:
            send(lambda frame: settle(reply, frame))
        except AMQPError as error:
            raise down(error) from error
        return await self._first(reply)

    async def _first(self, reply: asyncio.Future[pika.frame.Method]) -> pika.frame.Method:
        done, _ = await asyncio.wait(
            {reply, self.lost}, timeout=self._timing.answer, return_when=asyncio.FIRST_COMPLETED
        )
        if reply in done:
            return reply.result()
        reply.cancel()
        if self.lost not in done:
            raise DependencyDownError("broker.down", f"the broker did not answer within {self._timing.answer:g} s")
        reason = self.lost.result()
        if isinstance(reason, pika.exceptions.ChannelClosedByBroker):
            raise BrokerRefusalError(reason.reply_code, reason.reply_text) from reason
        raise down(reason) from reason

    def drop(self) -> None:
        """Close without waiting: what was unacknowledged goes back, what was unconfirmed stays so."""
        if self.raw.is_open or self.raw.is_opening:
            self.raw.close()

    async def close(self) -> None:
        self.drop()
        await asyncio.wait({self.lost}, timeout=self._timing.answer)


def settle(future: "asyncio.Future[T]", result: T) -> None:
    """Give a future its result unless it has one, or nobody waits any longer."""
    if not future.done():
        future.set_result(result)


def down(error: Exception) -> DependencyDownError:
    """What any error of pika's means to a stage: wait, and try the same again."""
    return DependencyDownError("broker.down", f"the connection to the broker was lost: {error!r}")
