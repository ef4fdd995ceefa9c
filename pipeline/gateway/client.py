"""HTTP conversations with other people's servers: verified TLS, no redirects, no environment; every end is a value."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from structlog.typing import FilteringBoundLogger

from pipeline.gateway.exchange import Exchange, Request
from pipeline.gateway.reply import Reply, ReplyError, read_reply
from pipeline.gateway.trouble import classify, gateway_closed, pool_exhausted, refused
from pipeline.gateway.wire import PiecewiseBody, Wire, request_fault, wire_trace
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.failures import Failure

_HEADERS: Final = {"Accept-Encoding": "identity", "User-Agent": "lodgment-pipeline"}


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Whom to trust. There is no setting that trusts everybody.

    `ca_file` (PEM) replaces the system's authorities for this gateway: a private authority must not be able to speak
    for the real agencies, nor a public one for a private server.
    """

    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds. `pool` and `total` together stay below the lease on a reference, or two workers could send it."""

    pool: float = 15
    """Waiting for one of our own connections."""
    connect: float = 10
    """Name, TCP and TLS."""
    write: float = 30
    """Until the server takes the next 64 KiB."""
    read: float = 190
    """Until the next byte of the answer; the ASIC guide (3.6) asks for more than three minutes."""
    total: float = 210
    """From having a connection slot to the last byte of the answer."""


class Gateway:
    """A pool of connections. Built inside a running event loop, closed once; takes hundreds of exchanges at a time."""

    def __init__(
        self,
        tls: TlsSettings,
        timeouts: Timeouts,
        clock: Callable[[], datetime],
        *,
        pool_size: int = 200,
        reply_limit: int = 50_000_000,
    ) -> None:
        """Read the trusted authorities.

        Raises:
            ConfigurationError: `gateway.ca-file` when they cannot be read.
        """
        self._timeouts = timeouts
        self._clock = clock
        self._reply_limit = reply_limit
        # The pool is waited for here, not in the library: time spent on our own queue must not eat into the exchange's
        # total and make a lodgment unknown.
        self._slots = asyncio.Semaphore(pool_size)
        self._session = ClientSession(
            connector=TCPConnector(limit=pool_size, ssl=tls_context(tls)),
            timeout=ClientTimeout(total=None, connect=timeouts.connect, sock_read=timeouts.read),
            cookie_jar=DummyCookieJar(),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
            trace_configs=[wire_trace(clock)],
        )
        self._log: FilteringBoundLogger = structlog.get_logger()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; exchanges still under way end as failures."""
        await self._session.close()

    async def exchange(self, request: Request) -> Exchange:
        """Send the request once and wait for the whole reply. (Only a GET on a stale connection is asked twice.)

        Trouble is a value, never an exception: `not_sent` only if certainly no byte left, `unknown` from there on, and
        `our_document` for a request that breaks a rule of ours, which waiting would not mend. A redirect is a reply.
        """
        started_at = self._clock()
        wire = Wire(written=not request.body)
        self._log.info("exchange.started")
        result = await self._attempt(request, wire)
        ended = Exchange(started_at, self._clock(), wire.started_at)
        if isinstance(result, Failure):
            self._log.warning("exchange.failed", kind=result.kind, code=result.code)
            return replace(ended, failure=result)
        self._log.info("exchange.completed", status=result.status, size=len(result.body))
        return replace(
            ended,
            status=result.status,
            content_type=result.content_type,
            body=result.body,
            server_date=result.server_date,
        )

    async def _attempt(self, request: Request, wire: Wire) -> Reply | Failure:
        if (fault := request_fault(request)) is not None:
            return refused(fault)
        try:
            async with asyncio.timeout(self._timeouts.pool):
                await self._slots.acquire()
        except TimeoutError:
            return pool_exhausted(self._timeouts.pool)
        try:
            return gateway_closed() if self._session.closed else await self._converse(request, wire)
        finally:
            self._slots.release()

    async def _converse(self, request: Request, wire: Wire) -> Reply | Failure:
        total = asyncio.timeout(self._timeouts.total)
        try:
            async with (
                total,
                self._session.request(
                    request.method,
                    request.url,
                    headers=request.headers,
                    data=PiecewiseBody(request.body, wire, self._timeouts.write) if request.body else None,
                    allow_redirects=False,
                    trace_request_ctx=wire,
                ) as response,
            ):
                return await read_reply(response, self._reply_limit, wire)
        except (ClientError, OSError, ReplyError) as error:
            return classify(error, wire, out_of_time=total.expired())


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or later, host name and chain verified.

    Raises:
        ConfigurationError: `gateway.ca-file`, the trusted authorities cannot be read.
    """
    # Not ssl.create_default_context(): that one writes session keys to a file when SSLKEYLOGFILE is in the environment.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if tls.ca_file is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(cafile=tls.ca_file)
    except OSError as error:
        raise ConfigurationError(
            "gateway.ca-file", f"{tls.ca_file} is not a readable PEM file of certificates"
        ) from error
    return context
