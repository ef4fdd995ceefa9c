"""What goes out: the check before anything is sent, the body piece by piece, and the mark where bytes may have left."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Final
from urllib.parse import urlsplit

from aiohttp import ClientSession, Payload, TraceConfig, TraceRequestHeadersSentParams
from aiohttp.abc import AbstractStreamWriter

from pipeline.gateway.exchange import Request, Streamed
from pipeline.lodgment.errors import PipelineError

_PIECE: Final = 64 * 1024
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_NOT_IN_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_NOT_IN_URL: Final = re.compile(r"[\x00-\x20\x7f]")
_FRAMING: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "te", "transfer-encoding", "upgrade"}
)


@dataclass(slots=True)
class Wire:
    """How far one request has got: this, and not the library's exception, tells "not sent" from "unknown"."""

    started_at: datetime | None = None
    """When the first byte was about to be handed to the socket."""
    written: bool = False
    """The whole body, if there is one, was handed over."""
    unread: bool = False
    """It was not, because the rest of it could not be read."""
    status: int | None = None
    """The head of the reply arrived."""
    received: int = 0
    """Bytes of the reply's body, as they came."""


def wire_trace(clock: Callable[[], datetime]) -> TraceConfig:
    """Marks a `Wire`, passed as `trace_request_ctx`, before the first byte of its request.

    The library calls the hook when a verified connection is in hand and the head is ready; nothing leaves before it.
    A connection that dies between the hook and the write counts as "may have left": rarely, that is too careful.
    """

    async def mark(_session: ClientSession, context: SimpleNamespace, _sent: TraceRequestHeadersSentParams) -> None:
        wire: Wire = context.trace_request_ctx
        if wire.started_at is None:
            wire.started_at = clock()

    trace = TraceConfig()
    trace.on_request_headers_sent.append(mark)
    return trace


class PiecewiseBody(Payload):
    """A body of known length (so never chunked), in pieces of at most 64 KiB, each taken within `timeout` seconds."""

    _autoclose = True

    def __init__(self, parts: tuple[bytes | Streamed, ...], wire: Wire, timeout: float) -> None:
        super().__init__(parts)
        self._parts = parts
        self._wire = wire
        self._timeout = timeout
        self._size = sum(part.size if isinstance(part, Streamed) else len(part) for part in parts)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002  - the library's signature
        """The library asks every payload for its text, and uses it for no request of ours."""
        raise TypeError("the body of a request is bytes, and may not be in memory")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Hand every piece to the socket.

        Raises:
            TimeoutError: the other side stopped taking bytes.
        """
        self._consumed = True
        for part in self._parts:
            async for piece in self._pieces(part):
                view = memoryview(piece)
                for start in range(0, len(view), _PIECE):
                    async with asyncio.timeout(self._timeout):
                        await writer.write(view[start : start + _PIECE])
        self._wire.written = True

    async def _pieces(self, part: bytes | Streamed) -> AsyncIterator[bytes]:
        if isinstance(part, bytes):
            yield part
            return
        try:
            async for piece in part.pieces():
                yield piece
        except PipelineError:
            self._wire.unread = True
            raise


def request_fault(request: Request) -> str | None:
    """Why this request must not be sent, or None. Values are not quoted: a header may carry a credential."""
    if not _TOKEN.fullmatch(request.method):
        return "the method is not an HTTP token"
    return _url_fault(request.url) or _header_fault(request.headers)


def _url_fault(url: str) -> str | None:
    if _NOT_IN_URL.search(url):
        return "the URL holds a space or a control character"
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the URL cannot be read"
    if parts.scheme != "https" or not parts.hostname:
        return "the URL must be https with a host: nothing is sent unencrypted"
    if parts.username is not None:
        return "the URL holds a user name: credentials belong in a header"
    return None


def _header_fault(headers: tuple[tuple[str, str], ...]) -> str | None:
    for position, (name, value) in enumerate(headers, start=1):
        if not _TOKEN.fullmatch(name):
            return f"the name of header {position} is not an HTTP token (RFC 9110, 5.1)"
        if _NOT_IN_VALUE.search(value):
            return f"header {name} holds a control character (RFC 9110, 5.5)"
        if name.lower() in _FRAMING:
            return f"header {name} frames the message and is set by the gateway alone"
    return None
