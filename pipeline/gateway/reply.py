"""What comes back, read under a cap: the body, inflated if need be while it is read, and the server's clock."""

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import ClassVar, Final

from aiohttp import ClientResponse

from pipeline.gateway.wire import Wire

_CHUNK: Final = 64 * 1024
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS


class ReplyError(Exception):
    """The reply began, and is not taken. `code` is the failure's, the text says why in our words."""

    code: ClassVar[str]


class ReplyTooBigError(ReplyError):
    """It passed the limit, before or after inflating; reading stopped there."""

    code = "transport.reply-too-big"


class UnreadableReplyError(ReplyError):
    """It is in a coding that was not asked for and is not understood, or breaks its own coding."""

    code = "transport.encoding"


class TruncatedReplyError(ReplyError):
    """It is compressed and ends early, although HTTP says that it is whole."""

    code = "transport.truncated"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply."""

    status: int
    content_type: str
    body: bytes
    server_date: datetime | None


async def read_reply(response: ClientResponse, limit: int, wire: Wire) -> Reply:
    """The reply with its whole body, of at most `limit` bytes.

    Raises:
        ReplyError: too big, unreadable or truncated.
    """
    wire.status = response.status
    body = await _read_body(response, limit, wire)
    return Reply(response.status, response.headers.get("Content-Type", ""), body, _server_date(response))


async def _read_body(response: ClientResponse, limit: int, wire: Wire) -> bytes:
    if (response.content_length or 0) > limit:
        raise ReplyTooBigError(f"a reply of {response.content_length} bytes is announced, the limit is {limit}")
    inflater = _inflater(response.headers.get("Content-Encoding", ""))
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        wire.received += len(chunk)
        body += inflater.feed(chunk, limit - len(body)) if inflater else chunk
        if len(body) > limit:
            raise ReplyTooBigError(f"the reply passed {limit} bytes after {wire.received} on the wire")
    if inflater and wire.received:
        inflater.finish()
    return bytes(body)


def _server_date(response: ClientResponse) -> datetime | None:
    """The `Date` header (RFC 9110, 6.6.1) in UTC, or None where it is absent or makes no sense."""
    try:
        date = parsedate_to_datetime(response.headers["Date"])
        return date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC)
    except (KeyError, ValueError, OverflowError):
        return None


class _Inflater:
    """Gives at most one byte more than there is room for, so that a bomb stops where it passes the limit."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_GZIP_OR_ZLIB)

    def feed(self, chunk: bytes, room: int) -> bytes:
        try:
            inflated = self._zlib.decompress(chunk, room + 1)
        except zlib.error as error:
            raise UnreadableReplyError(f"the compressed reply is damaged: {error}") from error
        if self._zlib.unused_data:
            raise UnreadableReplyError("bytes follow the end of the compressed reply")
        return inflated

    def finish(self) -> None:
        if not self._zlib.eof:
            raise TruncatedReplyError("the compressed reply ends early")


def _inflater(coding: str) -> _Inflater | None:
    """We ask for `identity`; some servers and middle boxes compress all the same."""
    match coding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip" | "deflate":
            return _Inflater()
        case _:
            raise UnreadableReplyError("the reply has a Content-Encoding that was not asked for")
