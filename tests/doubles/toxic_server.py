"""An HTTP server that misbehaves on purpose: each test says, as a small coroutine, what happens on a connection."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset instead of an orderly end."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came over the wire."""

    line: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class Conversation:
    """One accepted connection."""

    def __init__(self, server: "ToxicServer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def read_request(self) -> Received:
        """The next whole request, counted by the server."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        request = Received(line, headers, body)
        self.server.requests.append(request)
        return request

    async def send(self, data: bytes) -> None:
        """These bytes, as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, body: bytes = b"ok", *, status: str = "200 OK", headers: tuple[str, ...] = ()) -> None:
        """A sound reply."""
        await self.send(reply_head(len(body), status=status, headers=headers) + body)

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        reset(self.writer)


Behaviour = Callable[[Conversation], Awaitable[None]]


def reply_head(length: int, *, status: str = "200 OK", headers: tuple[str, ...] = ()) -> bytes:
    """The head of a reply that announces `length` bytes."""
    lines = (f"HTTP/1.1 {status}", "Content-Type: text/xml", f"Content-Length: {length}", *headers, "", "")
    return "\r\n".join(lines).encode()


async def answer_everything(conversation: Conversation) -> None:
    """The behaviour of a healthy server."""
    while True:
        await conversation.read_request()
        await conversation.reply()


async def never_end(conversation: Conversation) -> None:
    """Hold the connection open and say nothing more."""
    del conversation
    await asyncio.Event().wait()


class ToxicServer:
    """Listens on a free port of this machine. What it saw is in `requests`, `accepted`, `open_now` and `most_open`."""

    def __init__(self, behaviour: Behaviour, tls: ssl.SSLContext | None) -> None:
        self.behaviour = behaviour
        self.requests: list[Received] = []
        self.accepted = 0
        self.open_now = 0
        self.most_open = 0
        self._tls = tls
        self._conversations: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls, backlog=1000)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for conversation in tuple(self._conversations):
            conversation.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where it listens, as the name in its certificate."""
        return f"https://localhost:{self.port}/service"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._converse(reader, writer))
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                await self.behaviour(Conversation(self, reader, writer))
                writer.close()
                await writer.wait_closed()
        finally:
            self.open_now -= 1
            writer.transport.abort()
