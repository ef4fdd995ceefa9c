"""What may have left: each case is `unknown`, marked with the time at which the first byte was about to go."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator

import pytest
import structlog

from pipeline.gateway.client import Timeouts
from pipeline.gateway.exchange import Exchange, Request, Streamed
from pipeline.lodgment.errors import DependencyDownError
from pipeline.lodgment.failures import Failure, FailureClass
from tests.doubles.private_ca import PrivateCa
from tests.doubles.toxic_server import Conversation, answer_everything, never_end, reply_head
from tests.integration.gateway.meeting import lodge_at, meeting

LARGE = b"x" * 20_000_000
"""More than the socket buffers of both sides hold."""


def unknown(exchange: Exchange, code: str) -> Failure:
    assert exchange.failure is not None
    assert (exchange.failure.kind, exchange.failure.code) == (FailureClass.UNKNOWN, code)
    assert exchange.wire_started_at is not None
    assert exchange.started_at <= exchange.wire_started_at <= exchange.finished_at
    assert exchange.status is None
    assert exchange.body is None
    return exchange.failure


async def test_reset_before_the_request_is_read_is_unknown(ca: PrivateCa) -> None:
    async def reset(conversation: Conversation) -> None:
        await conversation.reader.read(1)
        conversation.reset()

    async with meeting(reset, ca) as (server, gateway):
        failure = unknown(await gateway.exchange(lodge_at(server)), "transport.reset")
    assert "under the same reference" in failure.advice


async def test_reset_after_the_request_was_read_is_unknown(ca: PrivateCa) -> None:
    async def read_and_reset(conversation: Conversation) -> None:
        await conversation.read_request()
        conversation.reset()

    async with meeting(read_and_reset, ca) as (server, gateway):
        unknown(await gateway.exchange(lodge_at(server)), "transport.reset")
    assert [request.body for request in server.requests] == [b"<envelope/>"]


async def test_close_without_an_answer_is_unknown_and_not_sent_again(ca: PrivateCa) -> None:
    async def read_and_close(conversation: Conversation) -> None:
        await conversation.read_request()

    async with meeting(read_and_close, ca) as (server, gateway):
        unknown(await gateway.exchange(lodge_at(server)), "transport.reset")
    assert server.accepted == 1


async def test_question_without_a_body_and_without_an_answer_is_unknown(ca: PrivateCa) -> None:
    async def read_and_close(conversation: Conversation) -> None:
        await conversation.read_request()

    async with meeting(read_and_close, ca) as (server, gateway):
        unknown(await gateway.exchange(Request(server.url, (), (), method="GET")), "transport.reset")


async def test_reset_in_the_middle_of_the_request_is_unknown(ca: PrivateCa) -> None:
    async def reset_half_way(conversation: Conversation) -> None:
        await conversation.reader.readexactly(100_000)
        conversation.reset()

    async with meeting(reset_half_way, ca) as (server, gateway):
        unknown(await gateway.exchange(lodge_at(server, LARGE)), "transport.write")


async def test_a_document_that_cannot_be_read_to_its_end_is_unknown_and_never_whole(ca: PrivateCa) -> None:
    left: list[bytes] = []

    async def pieces() -> AsyncIterator[bytes]:
        yield b"y" * 300_000
        raise DependencyDownError("ledger.down", "synthetic")

    async def read_what_comes(conversation: Conversation) -> None:
        while piece := await conversation.reader.read(100_000):
            left.append(piece)

    async with meeting(read_what_comes, ca) as (server, gateway):
        request = lodge_at(server, b"<head>", Streamed(400_000, pieces), b"</head>")
        failure = unknown(await gateway.exchange(request), "transport.unread")
    assert "ledger.down" in failure.detail or "synthetic" in failure.detail
    assert b"</head>" not in b"".join(left)


async def test_server_that_stops_taking_bytes_is_unknown(ca: PrivateCa) -> None:
    async def take_a_little(conversation: Conversation) -> None:
        await conversation.reader.readexactly(100_000)
        await never_end(conversation)

    timeouts = Timeouts(pool=60, connect=60, write=0.2, read=60, total=60)
    async with meeting(take_a_little, ca, timeouts) as (server, gateway):
        unknown(await gateway.exchange(lodge_at(server, LARGE)), "transport.write-timeout")


async def test_no_answer_is_unknown(ca: PrivateCa) -> None:
    async def read_and_fall_silent(conversation: Conversation) -> None:
        await conversation.read_request()
        await never_end(conversation)

    timeouts = Timeouts(pool=60, connect=60, write=60, read=0.2, total=60)
    async with meeting(read_and_fall_silent, ca, timeouts) as (server, gateway):
        unknown(await gateway.exchange(lodge_at(server)), "transport.read-timeout")


async def test_head_of_a_reply_and_then_nothing_is_unknown(ca: PrivateCa) -> None:
    async def head_only(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.send(reply_head(100))
        await never_end(conversation)

    timeouts = Timeouts(pool=60, connect=60, write=60, read=0.2, total=60)
    async with meeting(head_only, ca, timeouts) as (server, gateway):
        failure = unknown(await gateway.exchange(lodge_at(server)), "transport.read-timeout")
    assert failure.detail.startswith("HTTP 200, 0 bytes of its body")


async def test_slow_drip_ends_at_the_total_timeout(ca: PrivateCa) -> None:
    async def drip(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.send(reply_head(1_000_000))
        while True:
            await conversation.send(b".")
            await asyncio.sleep(0.01)

    timeouts = Timeouts(pool=60, connect=60, write=60, read=60, total=0.5)
    async with meeting(drip, ca, timeouts) as (server, gateway):
        unknown(await gateway.exchange(lodge_at(server)), "transport.timeout")


@pytest.mark.parametrize(
    "cut_reply",
    [
        reply_head(100) + b"only this",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nonly this",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonly\r\n",
    ],
    ids=["content length too long", "cut within a chunk", "cut between chunks"],
)
@pytest.mark.parametrize("by_reset", [False, True], ids=["closed", "reset"])
async def test_truncated_reply_is_unknown(ca: PrivateCa, cut_reply: bytes, *, by_reset: bool) -> None:
    async def cut(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.send(cut_reply)
        if by_reset:
            conversation.reset()

    async with meeting(cut, ca) as (server, gateway):
        exchange = await gateway.exchange(lodge_at(server))
    # A reset may destroy what was already under way to us, the head included.
    codes = {"transport.truncated", "transport.reset"} if by_reset else {"transport.truncated"}
    assert exchange.failure is not None
    assert exchange.failure.code in codes
    unknown(exchange, exchange.failure.code)


async def test_answer_that_is_not_http_is_unknown(ca: PrivateCa) -> None:
    async def talk_smtp(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.send(b"220 mail.example ESMTP\r\n\r\n")

    async with meeting(talk_smtp, ca) as (server, gateway):
        unknown(await gateway.exchange(lodge_at(server)), "transport.protocol")


async def test_announced_huge_reply_is_not_read(ca: PrivateCa) -> None:
    async def announce(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.send(reply_head(10_000_000_000))
        await never_end(conversation)

    async with meeting(announce, ca) as (server, gateway):
        failure = unknown(await gateway.exchange(lodge_at(server)), "transport.reply-too-big")
    assert "HTTP 200, 0 bytes" in failure.detail


async def test_unannounced_huge_reply_is_stopped_while_reading(ca: PrivateCa) -> None:
    async def pour(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await conversation.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")

    async with meeting(pour, ca, reply_limit=1_000_000) as (server, gateway):
        failure = unknown(await gateway.exchange(lodge_at(server)), "transport.reply-too-big")
    assert "passed 1000000 bytes after 10" in failure.detail


async def test_gzip_bomb_is_stopped_while_inflating(ca: PrivateCa) -> None:
    bomb = gzip.compress(bytes(200_000_000), compresslevel=1)

    async def throw(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.reply(bomb, headers=("Content-Encoding: gzip",))

    async with meeting(throw, ca, reply_limit=2_000_000) as (server, gateway):
        failure = unknown(await gateway.exchange(lodge_at(server)), "transport.reply-too-big")
    received = int(failure.detail.removeprefix("HTTP 200, ").split()[0])
    assert received < len(bomb) / 2


@pytest.mark.parametrize(
    ("coding", "body", "code"),
    [
        ("gzip", b"not gzip", "transport.encoding"),
        ("gzip", gzip.compress(b"<reply/>", mtime=0) + b"more", "transport.encoding"),
        ("gzip", gzip.compress(b"<reply/>", mtime=0)[:-4], "transport.truncated"),
        ("br", b"whatever", "transport.encoding"),
    ],
)
async def test_reply_in_a_broken_or_foreign_coding_is_unknown(
    ca: PrivateCa, coding: str, body: bytes, code: str
) -> None:
    async def reply_coded(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.reply(body, headers=(f"Content-Encoding: {coding}",))

    async with meeting(reply_coded, ca) as (server, gateway):
        unknown(await gateway.exchange(lodge_at(server)), code)


async def test_stale_pooled_connection_is_never_reported_as_lodged_or_sent_twice(ca: PrivateCa) -> None:
    async def answer_once_then_reset_on_the_next_byte(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.reply()
        await conversation.reader.read(1)
        conversation.reset()

    async with meeting(answer_once_then_reset_on_the_next_byte, ca) as (server, gateway):
        first = await gateway.exchange(lodge_at(server))
        unknown(await gateway.exchange(lodge_at(server)), "transport.reset")
    assert first.status == 200
    assert server.accepted == 1


async def test_closing_the_gateway_ends_what_is_under_way_as_unknown(ca: PrivateCa) -> None:
    asked = asyncio.Event()

    async def fall_silent(conversation: Conversation) -> None:
        await conversation.read_request()
        asked.set()
        await never_end(conversation)

    async with meeting(fall_silent, ca) as (server, gateway):
        under_way = asyncio.create_task(gateway.exchange(lodge_at(server)))
        await asked.wait()
        await gateway.close()
        unknown(await under_way, "transport.reset")


async def test_cancelling_closes_the_connection_and_frees_its_place(ca: PrivateCa) -> None:
    asked = asyncio.Event()
    silent = True

    async def fall_silent_first(conversation: Conversation) -> None:
        if silent:
            await conversation.read_request()
            asked.set()
            await never_end(conversation)
        await answer_everything(conversation)

    async with meeting(fall_silent_first, ca, pool_size=1) as (server, gateway):
        given_up = asyncio.create_task(gateway.exchange(lodge_at(server)))
        await asked.wait()
        silent = False
        given_up.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await given_up
        exchange = await gateway.exchange(lodge_at(server))
    assert given_up.cancelled()
    assert exchange.body == b"ok"
    assert server.accepted == 2


async def test_log_tells_start_and_end_and_no_content(ca: PrivateCa) -> None:
    async def cut(conversation: Conversation) -> None:
        await conversation.read_request()
        await conversation.send(reply_head(100) + b"reply-secret")

    async with meeting(cut, ca) as (server, gateway):
        with (
            structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as events,
            structlog.contextvars.bound_contextvars(lodgment_id="0193"),
        ):
            await gateway.exchange(
                lodge_at(server, b"body-secret", headers=(("Authorization", "Basic header-secret"),))
            )
    assert [(event["event"], event["lodgment_id"]) for event in events] == [
        ("exchange.started", "0193"),
        ("exchange.failed", "0193"),
    ]
    assert events[1]["code"] == "transport.truncated"
    assert "secret" not in repr(events)
