"""Consuming in batches: a subscription that outlives its channel, and acknowledges as few times as it may."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

import pika
import structlog
from pika.exceptions import AMQPError

from pipeline.broker.channel import Channel, Timing
from pipeline.broker.connection import Link, Session, report_end
from pipeline.broker.port import Delivery
from pipeline.lodgment.errors import PipelineError

log = structlog.get_logger()

_BROKERS_HEADERS = frozenset({"x-delivery-count", "x-first-death-queue", "x-first-death-reason"})


class _Token(NamedTuple):
    channel: Channel
    tag: int


Source = Callable[[Session, Channel], Awaitable[str]]
"""Declares what a subscription needs and names the queue to consume."""


class RabbitSubscription:
    """A consumer on one queue, on a channel of its own."""

    def __init__(self, link: Link, source: Source, prefetch: int, timing: Timing) -> None:
        self._link = link
        self._source = source
        self._prefetch = prefetch
        self._timing = timing
        self._channel: Channel | None = None
        self._ready: deque[Delivery] = deque()
        self._unsettled: dict[int, None] = {}
        """Tags of the present channel in rising order: prefetched or in hand."""
        self._wanted = 1
        self._enough = asyncio.Event()
        self._taking = asyncio.Lock()
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._channel = await self._consume(await self._link.session())
        self._keeper = asyncio.create_task(self._keep(), name="broker-subscription")
        self._keeper.add_done_callback(self._on_keeper_done)

    async def take(self, limit: int, linger: float) -> list[Delivery]:
        async with self._taking:
            await self._until(1)
            while not self._closed:
                # What is in hand takes up prefetch: more than the rest cannot come.
                in_hand = len(self._unsettled) - len(self._ready)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(linger):
                        await self._until(min(limit, self._prefetch - in_hand))
                if self._ready:
                    break
                # A connection lost while we lingered took the prefetched deliveries with it: start over.
                await self._until(1)
            return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        tags = self._settle(deliveries)
        if self._channel is None or not tags:
            return
        raw = self._channel.raw
        oldest = next(iter(self._unsettled), tags[-1] + 1)
        # One frame for all up to the oldest that is still unsettled; the rest one by one.
        whole = [tag for tag in tags if tag < oldest]
        try:
            if whole:
                raw.basic_ack(whole[-1], multiple=True)
            for tag in tags[len(whole) :]:
                raw.basic_ack(tag)
        except AMQPError as error:
            log.info("broker.ack_dropped", reason=repr(error))

    async def reject(self, deliveries: Sequence[Delivery]) -> None:
        tags = self._settle(deliveries)
        if self._channel is None:
            return
        try:
            for tag in tags:
                self._channel.raw.basic_reject(tag, requeue=False)
        except AMQPError as error:
            log.info("broker.ack_dropped", reason=repr(error))

    async def close(self) -> None:
        channel = self._channel
        self._closed = True
        self._forget()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        if channel is not None:
            await channel.close()

    async def _until(self, wanted: int) -> None:
        """Wait for so many deliveries at hand, or for the end."""
        while len(self._ready) < wanted and not self._closed:
            self._wanted = wanted
            self._enough.clear()
            await self._enough.wait()

    def _settle(self, deliveries: Iterable[Delivery]) -> list[int]:
        """The tags that may be settled now, rising: once each, and none of an earlier channel."""
        tags = sorted(
            token.tag
            for token in (delivery.token for delivery in deliveries)
            if isinstance(token, _Token) and token.channel is self._channel and token.tag in self._unsettled
        )
        for tag in tags:
            self._unsettled.pop(tag, None)
        return tags

    def _forget(self) -> None:
        """The channel is gone: everything unsettled is the broker's again."""
        self._channel = None
        self._ready.clear()
        self._unsettled.clear()
        self._enough.set()

    async def _keep(self) -> None:
        while self._channel is not None:
            reason = await asyncio.shield(self._channel.lost)
            self._forget()
            log.warning("broker.subscription_lost", reason=repr(reason))
            self._channel = await self._again()

    def _on_keeper_done(self, keeper: asyncio.Task[None]) -> None:
        """Nobody looks after the consumer any more: `take` must say so, not wait for ever."""
        report_end(keeper)
        self._closed = True
        self._forget()

    async def _again(self) -> Channel:
        for delay in self._timing.delays():
            session = await self._link.next_session()
            try:
                return await self._consume(session)
            except PipelineError as error:
                log.warning("broker.subscription_failed", code=error.code, reason=str(error))
            await asyncio.sleep(delay)
        raise AssertionError  # the delays never end

    async def _consume(self, session: Session) -> Channel:
        channel = await session.channel()
        try:
            queue = await self._source(session, channel)
            await channel.ask(lambda reply: channel.raw.basic_qos(prefetch_count=self._prefetch, callback=reply))
            # The broker cancels when the queue is deleted or moves; the channel goes with it and is made again.
            channel.raw.add_on_cancel_callback(lambda _: channel.drop())
            self._channel = channel
            await channel.ask(
                lambda reply: channel.raw.basic_consume(
                    queue,
                    lambda _, method, properties, body: self._on_message(channel, method, properties, body),
                    callback=reply,
                )
            )
        except BaseException:
            self._forget()
            channel.drop()
            raise
        return channel

    def _on_message(
        self, channel: Channel, method: pika.spec.Basic.Deliver, properties: pika.BasicProperties, body: bytes
    ) -> None:
        self._unsettled[method.delivery_tag] = None
        self._ready.append(
            Delivery(
                body,
                properties.message_id or "",
                _headers(properties.headers),
                method.redelivered,
                _Token(channel, method.delivery_tag),
            )
        )
        if len(self._ready) >= self._wanted:
            self._enough.set()


def _headers(headers: dict[str, object] | None) -> dict[str, str]:
    """Text headers, and of the broker's own the few that the port names."""
    if not headers:
        return {}
    return {name: str(value) for name, value in headers.items() if isinstance(value, str) or name in _BROKERS_HEADERS}
