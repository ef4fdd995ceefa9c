"""Whole replies, what the server received for them, and the pool that carries many at once."""

import asyncio
import gzip
import itertools
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from pipeline.gateway.client import Gateway
from pipeline.gateway.exchange import Exchange, Request, Streamed
from tests.doubles.private_ca import PrivateCa
from tests.doubles.toxic_server import Conversation, ToxicServer, answer_everything
from tests.integration.gateway.meeting import lodge_at, meeting


async def test_returns_a_whole_reply_with_its_status_type_and_date(ca: PrivateCa) -> None:
    async def reply_with_date(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.reply(b"<reply/>", headers=("Date: Mon, 23 Nov 2026 06:30:00 GMT",))

    async with meeting(reply_with_date, ca) as (server, gateway):
        exchange = await gateway.exchange(lodge_at(server))
    assert exchange.failure is None
    assert (exchange.status, exchange.content_type, exchange.body) == (200, "text/xml", b"<reply/>")
    assert exchange.server_date == datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
    assert exchange.wire_started_at is not None
    assert exchange.started_at <= exchange.wire_started_at <= exchange.finished_at


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 31 Feb 2026 06:30:00 GMT", "Fri, 31 Dec 9999 23:59:59 -2359"])
async def test_senseless_date_is_no_date(ca: PrivateCa, date: str) -> None:
    async def reply_with_date(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.reply(headers=(f"Date: {date}",))

    async with meeting(reply_with_date, ca) as (server, gateway):
        exchange = await gateway.exchange(lodge_at(server))
    assert (exchange.body, exchange.server_date) == (b"ok", None)


async def test_sends_the_pieces_as_one_body_of_stated_length(ca: PrivateCa) -> None:
    payload = b"p" * 300_000
    async with meeting(answer_everything, ca) as (server, gateway):
        await gateway.exchange(lodge_at(server, b"<head>", payload, b"", b"</head>", headers=(("SOAPAction", '""'),)))
    (request,) = server.requests
    assert request.line == "POST /service HTTP/1.1"
    assert request.body == b"<head>" + payload + b"</head>"
    assert request.headers["content-length"] == str(len(request.body))
    assert "transfer-encoding" not in request.headers
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-type"] == "text/xml"
    assert request.headers["soapaction"] == '""'


async def test_sends_what_is_read_meanwhile_as_part_of_the_body(ca: PrivateCa) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield b"p" * 100_000

    async with meeting(answer_everything, ca) as (server, gateway):
        exchange = await gateway.exchange(lodge_at(server, b"<head>", Streamed(300_000, pieces), b"</head>"))
    (request,) = server.requests
    assert exchange.failure is None
    assert request.body == b"<head>" + b"p" * 300_000 + b"</head>"
    assert request.headers["content-length"] == str(len(request.body))


async def test_get_has_no_body(ca: PrivateCa) -> None:
    async with meeting(answer_everything, ca) as (server, gateway):
        exchange = await gateway.exchange(Request(server.url, (), (), method="GET"))
    assert exchange.status == 200
    assert exchange.wire_started_at is not None
    assert server.requests[0].line == "GET /service HTTP/1.1"
    assert "content-length" not in server.requests[0].headers


@pytest.mark.parametrize("status", ["400 Bad Request", "500 Internal Server Error", "503 Service Unavailable"])
async def test_fault_with_an_error_status_is_a_reply(ca: PrivateCa, status: str) -> None:
    async def fault(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.reply(b"<Fault/>", status=status)

    async with meeting(fault, ca) as (server, gateway):
        exchange = await gateway.exchange(lodge_at(server))
    assert (exchange.status, exchange.body) == (int(status[:3]), b"<Fault/>")
    assert exchange.failure is None


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_redirect_is_a_reply_and_is_not_followed(ca: PrivateCa, status: str, scheme: str) -> None:
    async with ToxicServer(answer_everything, None) as elsewhere:

        async def redirect(conversation: Conversation) -> None:
            await conversation.read_request()
            await conversation.reply(status=status, headers=(f"Location: {scheme}://localhost:{elsewhere.port}/",))

        async with meeting(redirect, ca) as (server, gateway):
            exchange = await gateway.exchange(lodge_at(server))
    assert exchange.status == int(status[:3])
    assert elsewhere.accepted == 0


async def test_answer_given_before_the_whole_request_was_read_is_a_reply(ca: PrivateCa) -> None:
    async def too_large(conversation: Conversation) -> None:
        await conversation.reader.readexactly(100_000)
        await conversation.reply(b"<Fault/>", status="413 Content Too Large")
        await asyncio.Event().wait()

    async with meeting(too_large, ca) as (server, gateway):
        exchange = await gateway.exchange(lodge_at(server, b"x" * 20_000_000))
    assert (exchange.status, exchange.body) == (413, b"<Fault/>")


@pytest.mark.parametrize(
    ("coding", "body"), [("gzip", gzip.compress(b"<reply/>", mtime=0)), ("deflate", zlib.compress(b"<reply/>"))]
)
async def test_inflates_what_a_server_compresses_unasked(ca: PrivateCa, coding: str, body: bytes) -> None:
    async def reply_compressed(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.reply(body, headers=(f"Content-Encoding: {coding}",))

    async with meeting(reply_compressed, ca) as (server, gateway):
        exchange = await gateway.exchange(lodge_at(server))
    assert exchange.body == b"<reply/>"


async def test_takes_a_reply_of_exactly_the_limit(ca: PrivateCa) -> None:
    async def reply_full(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.reply(b"x" * 1_000_000)

    async with meeting(reply_full, ca, reply_limit=1_000_000) as (server, gateway):
        exchange = await gateway.exchange(lodge_at(server))
    assert len(exchange.body or b"") == 1_000_000


async def test_proxy_variables_divert_nothing(ca: PrivateCa, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ToxicServer(answer_everything, None) as proxy, meeting(answer_everything, ca) as (server, gateway):
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://localhost:{proxy.port}")
        exchange = await gateway.exchange(lodge_at(server))
    assert exchange.body == b"ok"
    assert proxy.accepted == 0


async def test_keeps_no_cookies_between_exchanges(ca: PrivateCa) -> None:
    async def set_cookie(conversation: Conversation) -> None:
        while True:
            await conversation.read_request()
            await conversation.reply(headers=("Set-Cookie: node=7",))

    async with meeting(set_cookie, ca) as (server, gateway):
        await gateway.exchange(lodge_at(server))
        await gateway.exchange(lodge_at(server))
    assert all("cookie" not in request.headers for request in server.requests)


async def test_uses_a_connection_again(ca: PrivateCa) -> None:
    async with meeting(answer_everything, ca) as (server, gateway):
        for _ in range(5):
            await gateway.exchange(lodge_at(server))
    assert (len(server.requests), server.accepted) == (5, 1)


async def test_connection_closed_between_requests_is_replaced_or_unknown(ca: PrivateCa) -> None:
    closed = asyncio.Event()

    async def answer_once(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.reply()
        conversation.writer.close()
        closed.set()

    async with meeting(answer_once, ca) as (server, gateway):
        assert (await gateway.exchange(lodge_at(server))).status == 200
        await closed.wait()
        second = await gateway.exchange(lodge_at(server))
    # Whether the close was seen before the second request left is a race that nobody can win; both ends are honest.
    if second.failure is None:
        assert len(server.requests) == 2
    else:
        assert (second.failure.kind, second.failure.code) == ("unknown", "transport.reset")
        assert second.wire_started_at is not None
        assert len(server.requests) == 1


async def test_holds_hundreds_of_slow_exchanges_at_once_within_its_limit(ca: PrivateCa) -> None:
    in_hand = 0
    most_in_hand = 0

    async def answer_slowly(conversation: Conversation) -> None:
        nonlocal in_hand, most_in_hand
        while True:
            await conversation.read_request()
            in_hand += 1
            most_in_hand = max(most_in_hand, in_hand)
            await asyncio.sleep(1)
            in_hand -= 1
            await conversation.reply()

    async with meeting(answer_slowly, ca, pool_size=150) as (server, gateway):
        exchanges = await _many(gateway, server, 300)
    assert [exchange.failure for exchange in exchanges] == [None] * 300
    assert 100 < most_in_hand <= 150
    assert server.most_open <= 150


async def _many(gateway: Gateway, server: ToxicServer, count: int) -> list[Exchange]:
    bodies = (f"<envelope>{number}</envelope>".encode() for number in itertools.count())
    return await asyncio.gather(*(gateway.exchange(lodge_at(server, next(bodies))) for _ in range(count)))
