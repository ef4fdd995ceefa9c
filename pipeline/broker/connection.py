"""One connection to RabbitMQ that mends itself: several URLs, bounded growing delays, channels on demand.

pika speaks in callbacks; here they become awaitables, each of which ends when its channel or its patience does.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import pika
import structlog
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError

from pipeline.lodgment.errors import ConfigurationError, DependencyDownError, PipelineError

log = structlog.get_logger()

T = TypeVar("T")

_ACCESS_REFUSED = frozenset({403, 530})
"""Reply codes for wrong credentials or permissions, and for a virtual host that does not exist."""


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


class Session:
    """The connection while it lives; `lost` is done, with the reason as its result, when it no longer does."""

    def __init__(self, raw: AsyncioConnection, lost: asyncio.Future[Exception], timing: Timing) -> None:
        self.lost = lost
        self._raw = raw
        self._timing = timing

    async def channel(self) -> Channel:
        channel = Channel(self._raw, self._timing)
        await channel.open()
        return channel

    async def close(self) -> None:
        with contextlib.suppress(AMQPError):
            self._raw.close()
        _, silent = await asyncio.wait({self.lost}, timeout=self._timing.answer)
        if silent:
            self._raw._adapter_disconnect_stream()  # noqa: SLF001 - pika has no public way to leave a peer that is silent
            await self.lost


class Link:
    """Keeps one `Session` alive: the first URL that answers, again and again, until closed."""

    def __init__(
        self,
        role: str,
        urls: Sequence[str],
        prepare: Callable[[Session], Awaitable[None]],
        timing: Timing,
        ca_file: str | None = None,
    ) -> None:
        self._role = role
        self._targets = [_parameters(url, timing, ca_file) for url in urls]
        self._prepare = prepare
        self._timing = timing
        self._session: Session | None = None
        self._up = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect once, then keep connected.

        Raises:
            DependencyDownError: no URL could be reached.
            ConfigurationError: the broker refuses these credentials or this topology.
        """
        if self._keeper is None:
            self._arrive(await self._connect())
            self._keeper = asyncio.create_task(self._keep(), name=f"broker-{self._role}")

    async def session(self) -> Session:
        """The live session, waiting for it no longer than one connection may take."""
        try:
            return await asyncio.wait_for(self.next_session(), self._timing.connect)
        except TimeoutError as error:
            raise DependencyDownError(
                "broker.down", f"no broker could be reached for {self._timing.connect:g} s"
            ) from error

    async def next_session(self) -> Session:
        """The live session, however long it takes."""
        while self._session is None:
            await self._up.wait()
        return self._session

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            self._keeper = None
        session, self._session = self._session, None
        self._up.clear()
        if session is not None:
            await session.close()

    async def _keep(self) -> None:
        while True:
            session = await self.next_session()
            reason = await asyncio.shield(session.lost)
            self._session = None
            self._up.clear()
            log.warning("broker.lost", role=self._role, reason=repr(reason))
            self._arrive(await self._reconnect())

    async def _reconnect(self) -> Session:
        for delay in self._timing.delays():
            await asyncio.sleep(delay)
            try:
                return await self._connect()
            except PipelineError as error:
                log.warning("broker.unreachable", role=self._role, code=error.code, reason=str(error))
        raise AssertionError  # the delays never end

    def _arrive(self, session: Session) -> None:
        self._session = session
        self._up.set()
        log.info("broker.connected", role=self._role)

    async def _connect(self) -> Session:
        errors: list[DependencyDownError] = []
        for target in self._targets:
            try:
                session = await _open_session(target, self._timing)
            except DependencyDownError as error:
                errors.append(error)
                continue
            try:
                await self._prepare(session)
            except DependencyDownError as error:
                errors.append(error)
                await session.close()
            except BaseException:
                await session.close()
                raise
            else:
                return session
        raise DependencyDownError("broker.down", "; ".join(str(error) for error in errors)) from errors[-1]


async def _open_session(target: pika.URLParameters, timing: Timing) -> Session:
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[Exception | None] = loop.create_future()
    lost: asyncio.Future[Exception] = loop.create_future()
    connection = AsyncioConnection(
        target,
        on_open_callback=lambda _: settle(opened, None),
        on_open_error_callback=lambda _, error: settle(opened, error),
        on_close_callback=lambda _, error: settle(lost, error),
        custom_ioloop=loop,
    )
    connection.add_on_connection_blocked_callback(lambda _, frame: log.warning("broker.blocked", reason=_reason(frame)))
    connection.add_on_connection_unblocked_callback(lambda *_: log.info("broker.unblocked"))
    try:
        async with asyncio.timeout(timing.connect):
            error = await opened
    except BaseException as interruption:
        if not connection.is_closed:
            connection.close()
        if isinstance(interruption, TimeoutError):
            raise DependencyDownError("broker.down", f"{_name(target)} did not answer in time") from interruption
        raise
    if error is not None:
        raise _refusal(target, error) from error
    return Session(connection, lost, timing)


def settle(future: "asyncio.Future[T]", result: T) -> None:
    """Give a future its result unless it has one, or nobody waits any longer."""
    if not future.done():
        future.set_result(result)


def down(error: Exception) -> DependencyDownError:
    """What any error of pika's means to a stage: wait, and try the same again."""
    return DependencyDownError("broker.down", f"the connection to the broker was lost: {error!r}")


def _refusal(target: pika.URLParameters, error: Exception) -> PipelineError:
    refused = isinstance(
        error, pika.exceptions.ProbableAuthenticationError | pika.exceptions.ProbableAccessDeniedError
    ) or (isinstance(error, pika.exceptions.ConnectionClosed) and error.reply_code in _ACCESS_REFUSED)
    if refused:
        return ConfigurationError(
            "broker.access", f"{_name(target)} refuses this user, password or virtual host ({error!r})"
        )
    return DependencyDownError("broker.down", f"{_name(target)} cannot be reached: {error!r}")


def _parameters(url: str, timing: Timing, ca_file: str | None) -> pika.URLParameters:
    """The URL's parameters with our time limits; TLS is always verified, there is no query argument around it."""
    parts = urlsplit(url)
    if parts.scheme not in {"amqp", "amqps"} or "ssl_options" in parts.query:
        raise ConfigurationError(
            "broker.url", "a broker URL is amqp[s]://user:password@host[:port]/vhost, without ssl_options"
        )
    target = pika.URLParameters(url)
    if parts.scheme == "amqps":
        target.ssl_options = pika.SSLOptions(ssl.create_default_context(cafile=ca_file))
    target.connection_attempts = 1
    target.socket_timeout = timing.connect
    target.stack_timeout = timing.connect
    target.heartbeat = timing.heartbeat
    target.blocked_connection_timeout = timing.blocked
    return target


def _name(target: pika.URLParameters) -> str:
    return f"{target.host}:{target.port}/{target.virtual_host.lstrip('/')}"


def _reason(frame: pika.frame.Method) -> str:
    return str(frame.method.reason)
