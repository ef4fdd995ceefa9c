"""gzip as a stream (RFC 1952): written the same to the byte every time, read with a bound on what it inflates to.

Agencies find duplicates by payload, and a retry must carry the bytes that were signed: the header says neither when nor
on which system it was written, and input is cut anew before it is compressed, so that its chunks leave no trace.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MEDIA_TYPE = "application/gzip"
LEVEL = 6
"""Part of what makes the output the same; the bytes also depend on the zlib that is loaded, so they are stored."""
PIECE = 64 * 1024
"""Bytes that are compressed, and inflated, at a time."""
MEMBER_LIMIT = 1_000
"""A gzip file is a series of members (RFC 1952, 2.2); one of 20 bytes can hold nothing and still cost its time."""
_HEADER = bytes((0x1F, 0x8B, zlib.DEFLATED, 0, 0, 0, 0, 0, 0, 255))
"""No flags, no time, no extra flags, unknown system (RFC 1952, 2.3.1)."""
_MODULO = 1 << 32
_GZIP = 16 + zlib.MAX_WBITS


class GzipError(ValueError):
    """gzip that cannot be read. `code` says which rule it breaks."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Measure:
    """Of some bytes: how many, and their SHA-256."""

    size: int
    sha256: bytes


class Compression:
    """A document on its way through the compressor. Iterate once; then `raw` and `compressed` say what passed."""

    def __init__(self, document: Iterable[bytes]) -> None:
        self._document = document
        self._raw = Meter()
        self._compressed = Meter()
        self._finished = False

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces():
            self._compressed.count(piece)
            yield piece
        self._finished = True

    @property
    def raw(self) -> Measure:
        """What went in.

        Raises:
            RuntimeError: the document has not been read to its end.
        """
        return self._measure(self._raw)

    @property
    def compressed(self) -> Measure:
        """What came out; its digest is that of the attachment's signature.

        Raises:
            RuntimeError: the document has not been read to its end.
        """
        return self._measure(self._compressed)

    def _measure(self, meter: "Meter") -> Measure:
        if not self._finished:
            raise RuntimeError("a document is measured once it has passed")
        return meter.measure()

    def _pieces(self) -> Iterator[bytes]:
        deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        checksum = 0
        yield _HEADER
        for piece in _recut(self._document):
            self._raw.count(piece)
            checksum = zlib.crc32(piece, checksum)
            if out := deflate.compress(piece):
                yield out
        size = self._raw.measure().size % _MODULO
        yield deflate.flush() + checksum.to_bytes(4, "little") + size.to_bytes(4, "little")


def inflate(content: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """The document in `content`, in pieces of at most `PIECE` bytes; several members are one document (RFC 1952, 2.2).

    A piece is good only when all of them are: checksum and size come last. Nothing may follow the last member.

    Raises:
        GzipError: `gzip.size` more than `limit` bytes, seen before they are inflated; `gzip.truncated`,
            `gzip.damaged`, `gzip.trailing` or `gzip.members`.
    """
    member, members, total = zlib.decompressobj(_GZIP), 1, 0
    for received in _cut(content):
        waiting, more = received, False
        while waiting or more:
            if member.eof:
                if not waiting:
                    break
                if members == MEMBER_LIMIT:
                    raise GzipError("gzip.members", f"more than {MEMBER_LIMIT} gzip members")
                member, members = zlib.decompressobj(_GZIP), members + 1
            piece = _decompress(member, waiting, min(PIECE, limit - total + 1), first=members == 1)
            waiting = member.unused_data if member.eof else member.unconsumed_tail
            # All input may be used up while the window still holds output.
            more = bool(piece)
            total += len(piece)
            if total > limit:
                raise GzipError("gzip.size", f"the document inflates to more than the {limit} bytes allowed")
            if piece:
                yield piece
    if not member.eof:
        raise GzipError("gzip.truncated", "the gzip content ends before its end")


def _decompress(member: "zlib._Decompress", waiting: bytes, most: int, *, first: bool) -> bytes:
    try:
        return member.decompress(waiting, most)
    except zlib.error as error:
        if not first and "incorrect header check" in str(error):
            raise GzipError("gzip.trailing", "bytes that are no gzip follow the gzip content") from error
        raise GzipError("gzip.damaged", "the gzip content is damaged") from error


def _cut(content: Iterable[bytes]) -> Iterator[bytes]:
    """In pieces so small that keeping what is left of one, as zlib does for each piece that it gives, costs nothing."""
    for received in content:
        if len(received) <= PIECE:
            yield received
        else:
            view = memoryview(received)
            yield from (bytes(view[start : start + PIECE]) for start in range(0, len(view), PIECE))


def _recut(document: Iterable[bytes]) -> Iterator[bytes]:
    waiting = bytearray()
    for piece in document:
        waiting += piece
        for start in range(0, len(waiting) - PIECE + 1, PIECE):
            yield bytes(waiting[start : start + PIECE])
        del waiting[: len(waiting) - len(waiting) % PIECE]
    if waiting:
        yield bytes(waiting)


class Meter:
    """Measures what passes."""

    def __init__(self) -> None:
        self._size = 0
        self._digest = hashlib.sha256()

    @classmethod
    def of(cls, *pieces: bytes) -> Measure:
        """The measure of these together."""
        meter = cls()
        for piece in pieces:
            meter.count(piece)
        return meter.measure()

    def count(self, piece: bytes) -> None:
        self._size += len(piece)
        self._digest.update(piece)

    def measure(self) -> Measure:
        return Measure(self._size, self._digest.digest())
