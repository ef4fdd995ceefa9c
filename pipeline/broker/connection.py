"""One connection to RabbitMQ that mends itself: several URLs, bounded growing delays, channels on demand."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pika
import structlog
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.exceptions import AMQPError

from pipeline.broker.channel import Channel, Timing, settle
from pipeline.broker.urls import parts_of
from pipeline.broker.writing import GatheringConnection
from pipeline.lodgment.errors import ConfigurationError, DependencyDownError, PipelineError

log = structlog.get_logger()

_ACCESS_REFUSED = frozenset({403, 530})
"""Reply codes for wrong credentials or permissions, and for a virtual host that does not exist."""


class Session:
    """The connection while it lives; `lost` is done, with the reason as its result, when it no longer does."""

    def __init__(self, raw: AsyncioConnection, lost: asyncio.Future[Exception], timing: Timing) -> None:
        self.lost = lost
        self._raw = raw
        self._timing = timing

    @property
    def server(self) -> tuple[str, str]:
        """Product and version, as the server names itself (AMQP 0-9-1, connection.start)."""
        said: Mapping[str, object] = self._raw.server_properties or {}
        return str(said.get("product", "")), str(said.get("version", ""))

    def on_blocked(self, told: Callable[[str], None]) -> None:
        """Call `told` with the reason when the broker holds this connection back."""
        self._raw.add_on_connection_blocked_callback(lambda _, frame: told(_reason(frame)))

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
        if not urls:
            raise ConfigurationError("broker.url", "no broker URL is set")
        self._role = role
        self._targets = [parameters(url, timing, ca_file) for url in urls]
        self._prepare = prepare
        self._timing = timing
        self._session: Session | None = None
        self._up = asyncio.Event()
        self._opening = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect once, then keep connected.

        Raises:
            DependencyDownError: no URL could be reached.
            ConfigurationError: the broker refuses these credentials or this topology.
        """
        # Several consumers may be the first at once; each would open a connection, and all but one would leak.
        async with self._opening:
            if self._keeper is None:
                self._arrive(await self._connect())
                self._keeper = asyncio.create_task(self._keep(), name=f"broker-{self._role}")
                self._keeper.add_done_callback(self._on_keeper_done)

    async def session(self) -> Session:
        """The live session, waiting for it no longer than one connection may take."""
        try:
            return await asyncio.wait_for(self.next_session(), self._timing.connect)
        except TimeoutError as error:
            raise DependencyDownError(
                "broker.down", f"no broker could be reached for {self._timing.connect:g} s"
            ) from error

    async def next_session(self) -> Session:
        """The live session, however long it takes.

        Raises:
            DependencyDownError: there will be none: the link is closed.
        """
        while self._session is None:
            if self._keeper is None or self._keeper.done():
                raise DependencyDownError("broker.down", "the connection to the broker is closed")
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

    def _on_keeper_done(self, keeper: asyncio.Task[None]) -> None:
        report_end(keeper)
        self._up.set()

    def _arrive(self, session: Session) -> None:
        self._session = session
        self._up.set()
        log.info("broker.connected", role=self._role)

    async def _connect(self) -> Session:
        errors: list[DependencyDownError] = []
        for target in self._targets:
            try:
                session = await open_session(target, self._timing)
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


def report_end(keeper: asyncio.Task[None]) -> None:
    """A keeper ends by being cancelled; another end is a defect, and must not pass in silence."""
    if not keeper.cancelled() and keeper.exception() is not None:
        log.error("broker.keeper_failed", task=keeper.get_name(), exc_info=keeper.exception())


async def open_session(target: pika.URLParameters, timing: Timing) -> Session:
    """A connection to one broker.

    Raises:
        DependencyDownError: it cannot be reached, or does not answer in time.
        ConfigurationError: `broker.access`, it refuses this user, password or virtual host.
    """
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[Exception | None] = loop.create_future()
    lost: asyncio.Future[Exception] = loop.create_future()

    def failed(_: AsyncioConnection, error: Exception) -> None:
        settle(opened, error)
        settle(lost, error)

    connection = GatheringConnection(
        target,
        on_open_callback=lambda _: settle(opened, None),
        on_open_error_callback=failed,
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
            with contextlib.suppress(AMQPError):  # pika's own time is up at the same moment, and it is closing already
                connection.close()
            await asyncio.wait({lost}, timeout=timing.answer)
        if isinstance(interruption, TimeoutError):
            raise DependencyDownError("broker.down", f"{_name(target)} did not answer in time") from interruption
        raise
    if error is not None:
        raise _refusal(target, error) from error
    return Session(connection, lost, timing)


def _refusal(target: pika.URLParameters, error: Exception) -> PipelineError:
    # A broker that refuses somebody says so with a code. pika calls every end at that point probable, and keeps the
    # code as text: without one of these the node is starting or stopping.
    if any(f"({code})" in repr(error) for code in _ACCESS_REFUSED):
        return ConfigurationError(
            "broker.access", f"{_name(target)} refuses this user, password or virtual host ({error!r})"
        )
    return DependencyDownError("broker.down", f"{_name(target)} cannot be reached: {error!r}")


def parameters(url: str, timing: Timing, ca_file: str | None) -> pika.URLParameters:
    """The URL's parameters with our time limits; TLS is always verified, there is no query argument around it."""
    parts = parts_of(url)
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
