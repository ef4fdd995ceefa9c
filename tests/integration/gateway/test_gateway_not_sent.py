"""What certainly never left: each case is `not_sent`, without a mark of the wire, and no server saw a request."""

import asyncio
import socket
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.gateway.client import Timeouts
from pipeline.gateway.exchange import Exchange, Request
from pipeline.lodgment.errors import ConfigurationError
from pipeline.lodgment.failures import Failure, FailureClass, Party
from tests.doubles.private_ca import PrivateCa
from tests.doubles.toxic_server import Conversation, ToxicServer, answer_everything, never_end
from tests.integration.gateway.meeting import lodge_at, meeting, new_gateway


def not_sent(exchange: Exchange, code: str) -> Failure:
    assert exchange.failure is not None
    assert (exchange.failure.kind, exchange.failure.code) == (FailureClass.NOT_SENT, code)
    assert exchange.wire_started_at is None
    assert exchange.status is None
    assert exchange.body is None
    assert exchange.started_at <= exchange.finished_at
    return exchange.failure


async def test_refused_port_is_not_sent(ca: PrivateCa) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with new_gateway(ca.ca_file) as gateway:
        failure = not_sent(
            await gateway.exchange(Request(f"https://localhost:{port}/", (b"x",), ())), "transport.connect"
        )
    assert failure.who is Party.AGENCY
    assert "Nothing was sent" in failure.advice


async def test_unresolvable_name_is_not_sent(ca: PrivateCa) -> None:
    async with new_gateway(ca.ca_file) as gateway:
        exchange = await gateway.exchange(Request("https://agency.invalid/service", (b"x",), ()))
    not_sent(exchange, "transport.resolve")


async def test_certificate_for_another_host_is_not_sent(ca: PrivateCa) -> None:
    async with (
        ToxicServer(answer_everything, ca.server("elsewhere.example")) as server,
        new_gateway(ca.ca_file) as gateway,
    ):
        failure = not_sent(await gateway.exchange(lodge_at(server)), "transport.certificate")
    assert server.requests == []
    assert "localhost" in failure.detail


async def test_self_signed_certificate_is_not_sent(ca: PrivateCa) -> None:
    async with ToxicServer(answer_everything, ca.self_signed()) as server, new_gateway(ca.ca_file) as gateway:
        not_sent(await gateway.exchange(lodge_at(server)), "transport.certificate")
    assert server.requests == []


async def test_expired_certificate_is_not_sent(ca: PrivateCa) -> None:
    expired = ca.server(ended=timedelta(hours=1))
    async with ToxicServer(answer_everything, expired) as server, new_gateway(ca.ca_file) as gateway:
        failure = not_sent(await gateway.exchange(lodge_at(server)), "transport.certificate")
    assert server.requests == []
    assert "expired" in failure.detail


async def test_private_authority_is_not_trusted_unless_named(ca: PrivateCa) -> None:
    async with ToxicServer(answer_everything, ca.server()) as server, new_gateway(None) as gateway:
        not_sent(await gateway.exchange(lodge_at(server)), "transport.certificate")
    assert server.requests == []


async def test_named_authority_replaces_every_other(ca: PrivateCa, tmp_path: Path) -> None:
    other = PrivateCa(tmp_path)
    async with ToxicServer(answer_everything, ca.server()) as server, new_gateway(other.ca_file) as gateway:
        not_sent(await gateway.exchange(lodge_at(server)), "transport.certificate")
    assert server.requests == []


async def test_server_up_to_tls_1_1_is_not_sent(ca: PrivateCa) -> None:
    async with ToxicServer(answer_everything, ca.server_up_to_tls_1_1()) as server, new_gateway(ca.ca_file) as gateway:
        not_sent(await gateway.exchange(lodge_at(server)), "transport.tls")
    assert server.requests == []


async def test_server_without_tls_is_not_sent(ca: PrivateCa) -> None:
    async def complain(conversation: Conversation) -> None:
        await conversation.reader.read(1)
        await conversation.reply(status="400 Bad Request")

    async with ToxicServer(complain, None) as server, new_gateway(ca.ca_file) as gateway:
        not_sent(await gateway.exchange(lodge_at(server)), "transport.tls")


async def test_server_that_hangs_up_during_the_handshake_is_not_sent(ca: PrivateCa) -> None:
    async def hang_up(conversation: Conversation) -> None:
        await conversation.reader.read(1)
        conversation.reset()

    async with ToxicServer(hang_up, None) as server, new_gateway(ca.ca_file) as gateway:
        not_sent(await gateway.exchange(lodge_at(server)), "transport.tls")


async def test_server_that_never_finishes_the_handshake_is_not_sent(ca: PrivateCa) -> None:
    timeouts = Timeouts(pool=60, connect=0.2, write=60, read=60, total=60)
    async with ToxicServer(never_end, None) as server, new_gateway(ca.ca_file, timeouts) as gateway:
        not_sent(await gateway.exchange(lodge_at(server)), "transport.connect-timeout")


async def test_waiting_too_long_for_a_connection_of_ours_is_not_sent(ca: PrivateCa) -> None:
    asked = asyncio.Event()

    async def fall_silent(conversation: Conversation) -> None:
        await conversation.read_request()
        asked.set()
        await never_end(conversation)

    timeouts = Timeouts(pool=0.2, connect=60, write=60, read=60, total=60)
    async with meeting(fall_silent, ca, timeouts, pool_size=1) as (server, gateway):
        first = asyncio.create_task(gateway.exchange(lodge_at(server)))
        await asked.wait()
        not_sent(await gateway.exchange(lodge_at(server)), "transport.pool-timeout")
        first.cancel()
        await asyncio.wait([first])
    assert len(server.requests) == 1


async def test_closed_gateway_sends_nothing(ca: PrivateCa) -> None:
    async with meeting(answer_everything, ca) as (server, gateway):
        await gateway.close()
        not_sent(await gateway.exchange(lodge_at(server)), "transport.closed")
    assert server.accepted == 0


@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("http://localhost/", ("X-Reference", "1")),
        ("https://", ("X-Reference", "1")),
        ("https://[::1", ("X-Reference", "1")),
        ("https://user:secret@localhost/", ("X-Reference", "1")),
        ("https://localhost/a\r\nX-Smuggled: 1", ("X-Reference", "1")),
        ("https://localhost/", ("X-Reference", "1\r\nX-Smuggled: 1")),
        ("https://localhost/", ("X-Reference", "1\nX-Smuggled: 1")),
        ("https://localhost/", ("X-Reference", "1\x00")),
        ("https://localhost/", ("X-Reference\r\nX-Smuggled", "1")),
        ("https://localhost/", ("X Reference", "1")),
        ("https://localhost/", ("Transfer-Encoding", "chunked")),
        ("https://localhost/", ("content-length", "1")),
    ],
)
async def test_refuses_a_request_that_breaks_http_before_anything_is_sent(
    ca: PrivateCa, url: str, header: tuple[str, str]
) -> None:
    async with meeting(answer_everything, ca) as (server, gateway):
        exchange = await gateway.exchange(
            Request(url.replace("localhost/", f"localhost:{server.port}/"), (b"x",), (header,))
        )
    assert exchange.failure is not None
    assert (exchange.failure.kind, exchange.failure.code) == (FailureClass.OUR_DOCUMENT, "transport.request")
    assert exchange.wire_started_at is None
    assert "secret" not in exchange.failure.detail
    assert server.accepted == 0


async def test_unreadable_authority_file_stops_at_start(tmp_path: Path) -> None:
    nothing = tmp_path / "ca.pem"
    with pytest.raises(ConfigurationError, match=r"ca\.pem") as missing:
        new_gateway(nothing)
    nothing.write_text("not a certificate")
    with pytest.raises(ConfigurationError) as damaged:
        new_gateway(nothing)
    assert missing.value.code == damaged.value.code == "gateway.ca-file"
