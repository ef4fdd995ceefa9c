"""What stands between a worker and the sandbox: a network that cuts, and an agency's gate that misbehaves."""

import asyncio
import gzip
import http.client
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from enum import Enum, auto
from typing import TypeVar
from urllib.parse import urlsplit

from tests.chaos.ground import Ground
from tests.doubles.toxic_proxy import ToxicProxy
from tests.doubles.toxic_server import Conversation, Received, ToxicServer, reply_head

T = TypeVar("T")
_REFERENCE = re.compile(rb"(messageReferenceNumber[^>]*>)([^<]+)<")
_HUGE = 60_000_000
"""More than the 50 MB that the gateway reads of a reply."""


@contextmanager
def in_a_thread(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Something asynchronous, running in an event loop of its own until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(what: AbstractAsyncContextManager[T], *, leave: bool) -> T | None:
        step = what.__aexit__(None, None, None) if leave else what.__aenter__()
        return asyncio.run_coroutine_threadsafe(_awaited(step), loop).result(30)  # type: ignore[arg-type]

    manager = make()
    try:
        made = run(manager, leave=False)
        assert made is not None
        try:
            yield made
        finally:
            run(manager, leave=True)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _awaited(step: "asyncio.Future[T]") -> T:
    return await step


@contextmanager
def network(ground: Ground) -> Iterator[ToxicProxy]:
    """A network between transport workers and the agency; the token service is reached without it."""
    port = urlsplit(ground.url).port
    assert port is not None
    with in_a_thread(lambda: ToxicProxy(port)) as proxy:
        ground.environment["LODGE_ENVIRONMENTS__LOCAL__AGENCY_URL"] = f"https://localhost:{proxy.port}"
        yield proxy


class Manner(Enum):
    """How the gate treats a lodgment. Where nothing else is said, the agency has processed it."""

    HONEST = auto()
    REFUSES = auto()
    """HTTP 503, and the agency never sees it."""
    REFUSES_LATE = auto()
    """HTTP 503 although the agency has processed it."""
    GATEWAY_TIMEOUT = auto()
    """HTTP 504 although the agency has processed it."""
    DRIPS = auto()
    """The reply comes a few bytes at a time, for ever."""
    HUGE = auto()
    HUGE_UNANNOUNCED = auto()
    """Chunked, so that no length warns of it."""
    BOMB = auto()
    """Compressed though nobody asked for it, and a thousand times as large when read: more than is read of a reply."""
    OTHERS_REFERENCE = auto()
    """The reply carries another lodgment's reference."""
    OTHERS_REPLY = auto()
    """The whole reply that belongs to the lodgment before."""
    GARBAGE = auto()
    EMPTY = auto()
    BREAKS_OFF = auto()


class Gate:
    """Ends the TLS of the workers and speaks to the sandbox itself. Set `manner` at any time."""

    def __init__(self, ground: Ground) -> None:
        self.manner = Manner.HONEST
        parts = urlsplit(ground.url)
        self._target = (parts.hostname or "", parts.port or 0)
        self._trust = ssl.create_default_context(cafile=ground.ca_file)
        self._before: bytes | None = None

    async def behave(self, conversation: Conversation) -> None:
        """One connection of a worker."""
        while True:
            request = await conversation.read_request()
            manner = self.manner
            if manner is Manner.REFUSES:
                await conversation.reply(b"come back later", status="503 Service Unavailable")
                continue
            content_type, body = await asyncio.to_thread(self._forward, request)
            await self._answer(conversation, manner, content_type, body)

    def _forward(self, request: Received) -> tuple[str, bytes]:
        connection = http.client.HTTPSConnection(*self._target, context=self._trust, timeout=30)
        headers = {name: value for name, value in request.headers.items() if name not in {"host", "content-length"}}
        try:
            connection.request("POST", request.line.split(" ")[1], request.body, headers)
            answer = connection.getresponse()
            return answer.headers.get("Content-Type", ""), answer.read()
        finally:
            connection.close()

    async def _answer(self, conversation: Conversation, manner: Manner, content_type: str, body: bytes) -> None:
        before, self._before = self._before or body, body
        match manner:
            case Manner.DRIPS:
                await _drip(conversation, _whole(content_type, body))
            case Manner.HUGE:
                await conversation.send(_head(content_type, _HUGE) + body)
                await asyncio.sleep(1)
                raise ConnectionAbortedError
            case Manner.HUGE_UNANNOUNCED:
                await _flood(conversation, content_type)
            case Manner.BREAKS_OFF:
                await conversation.send(_head(content_type, len(body)) + body[: len(body) // 2])
                conversation.reset()
            case Manner.OTHERS_REPLY:
                await conversation.send(_whole(content_type, before))
            case _:
                await conversation.send(_REPLIES.get(manner, _whole)(content_type, body))


async def _drip(conversation: Conversation, reply: bytes) -> None:
    for start in range(0, len(reply), 3):
        await conversation.send(reply[start : start + 3])
        await asyncio.sleep(0.2)


async def _flood(conversation: Conversation, content_type: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    await conversation.send(head.encode())
    piece = b"<" * 1_000_000
    for _ in range(_HUGE // len(piece)):
        if conversation.writer.is_closing():
            return
        await conversation.send(b"%x\r\n%s\r\n" % (len(piece), piece))


def _head(content_type: str, length: int, *headers: str) -> bytes:
    whole = reply_head(length, headers=headers)
    return whole.replace(b"Content-Type: text/xml", f"Content-Type: {content_type}".encode())


def _whole(content_type: str, body: bytes) -> bytes:
    return _head(content_type, len(body)) + body


def _status(line: str) -> Callable[[str, bytes], bytes]:
    return lambda _, __: reply_head(4, status=line) + b"busy"


def _bomb(content_type: str, _: bytes) -> bytes:
    bomb = gzip.compress(b"<" * _HUGE)
    return _head(content_type, len(bomb), "Content-Encoding: gzip") + bomb


def _other_reference(content_type: str, body: bytes) -> bytes:
    altered = _REFERENCE.sub(lambda found: found[1] + b"0" * len(found[2]) + b"<", body)
    assert altered != body, "the reply carries no reference"
    return _whole(content_type, altered)


_REPLIES: dict[Manner, Callable[[str, bytes], bytes]] = {
    Manner.REFUSES_LATE: _status("503 Service Unavailable"),
    Manner.GATEWAY_TIMEOUT: _status("504 Gateway Timeout"),
    Manner.BOMB: _bomb,
    Manner.OTHERS_REFERENCE: _other_reference,
    Manner.GARBAGE: lambda content_type, _: _whole(content_type, b"\x00\x01<not XML"),
    Manner.EMPTY: lambda content_type, _: _whole(content_type, b""),
}


@contextmanager
def gate(ground: Ground) -> Iterator[Gate]:
    """A gate before the agency; the token service is reached without it."""
    keeper = Gate(ground)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(ground.tls_file)
    with in_a_thread(lambda: ToxicServer(keeper.behave, tls)) as server:
        ground.environment["LODGE_ENVIRONMENTS__LOCAL__AGENCY_URL"] = f"https://localhost:{server.port}"
        yield keeper
