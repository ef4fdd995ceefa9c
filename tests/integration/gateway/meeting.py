"""A gateway meets a toxic server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from pipeline.gateway.client import Gateway, Timeouts, TlsSettings
from pipeline.gateway.exchange import Request, Streamed
from tests.doubles.private_ca import PrivateCa
from tests.doubles.toxic_server import Behaviour, ToxicServer

PATIENT = Timeouts(pool=60, connect=60, write=60, read=60, total=60)
"""Far longer than any test: only the time-out that a test is about may fire."""


def new_gateway(
    ca_file: Path | None, timeouts: Timeouts = PATIENT, *, pool_size: int = 10, reply_limit: int = 1_000_000
) -> Gateway:
    """A gateway on the machine's clock."""
    return Gateway(
        TlsSettings(ca_file), timeouts, lambda: datetime.now(UTC), pool_size=pool_size, reply_limit=reply_limit
    )


@asynccontextmanager
async def meeting(
    behaviour: Behaviour,
    ca: PrivateCa,
    timeouts: Timeouts = PATIENT,
    *,
    pool_size: int = 10,
    reply_limit: int = 1_000_000,
) -> AsyncIterator[tuple[ToxicServer, Gateway]]:
    """A server with this behaviour and a sound certificate, and a gateway that trusts it."""
    async with (
        ToxicServer(behaviour, ca.server()) as server,
        new_gateway(ca.ca_file, timeouts, pool_size=pool_size, reply_limit=reply_limit) as gateway,
    ):
        yield server, gateway


def lodge_at(server: ToxicServer, *body: bytes | Streamed, headers: tuple[tuple[str, str], ...] = ()) -> Request:
    """A POST of these pieces."""
    return Request(server.url, body or (b"<envelope/>",), (("Content-Type", "text/xml"), *headers))
