"""Tag, length, value: as much of BER and DER (X.690) as certificate sets and encrypted keys need."""

from collections.abc import Iterator
from dataclasses import dataclass

_DEPTH_LIMIT = 32
_CONSTRUCTED = 0x20
SEQUENCE = 0x30
SET = 0x31
INTEGER = 0x02
OCTET_STRING = 0x04
CONTEXT_0 = 0xA0
_END_OF_CONTENTS = b"\x00\x00"


class BerError(ValueError):
    """Bytes that are not BER, or BER of a kind that no certificate uses."""


@dataclass(frozen=True, slots=True)
class Tlv:
    """One element: its identifier octet, its contents, and the whole as it stood."""

    tag: int
    content: bytes
    encoded: bytes


def read(data: bytes) -> Tlv:
    """The first element of `data`; what follows it is left alone.

    Raises:
        BerError: truncated, nested too deeply, or a form that is not read here.
    """
    return _element(data, 0, 0)


def children(element: Tlv) -> Iterator[Tlv]:
    """The elements inside a constructed one, in order.

    Raises:
        BerError: see `read`.
    """
    if not element.tag & _CONSTRUCTED:
        raise BerError(f"tag 0x{element.tag:02X} holds no elements")
    position = 0
    while position < len(element.content):
        child = _element(element.content, position, 0)
        yield child
        position += len(child.encoded)


def encode(tag: int, *parts: bytes) -> bytes:
    """An element of definite length, in DER."""
    content = b"".join(parts)
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    octets = (len(content).bit_length() + 7) // 8
    return bytes((tag, 0x80 | octets)) + len(content).to_bytes(octets, "big") + content


def encode_indefinite(tag: int, *parts: bytes) -> bytes:
    """A constructed element of indefinite length (X.690, 8.1.3.6), as older issuers write them."""
    return bytes((tag, 0x80)) + b"".join(parts) + _END_OF_CONTENTS


def encode_integer(value: int) -> bytes:
    """A non-negative INTEGER."""
    return encode(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _element(data: bytes, start: int, depth: int) -> Tlv:
    if depth > _DEPTH_LIMIT:
        raise BerError(f"nested deeper than {_DEPTH_LIMIT}")
    if start + 2 > len(data):
        raise BerError("truncated")
    tag, first = data[start], data[start + 1]
    if tag & 0x1F == 0x1F:
        raise BerError("tag numbers above 30 are not read")
    begin = start + 2
    if first == 0x80:
        return _indefinite(data, start, depth)
    if first > 0x80:
        begin += first & 0x7F
        length = int.from_bytes(data[start + 2 : begin], "big")
    else:
        length = first
    if begin + length > len(data):
        raise BerError("truncated")
    return Tlv(tag, data[begin : begin + length], data[start : begin + length])


def _indefinite(data: bytes, start: int, depth: int) -> Tlv:
    if not data[start] & _CONSTRUCTED:
        raise BerError("only constructed elements may have indefinite length (X.690, 8.1.3.2)")
    position = begin = start + 2
    while data[position : position + 2] != _END_OF_CONTENTS:
        position += len(_element(data, position, depth + 1).encoded)
    return Tlv(data[start], data[begin:position], data[start : position + 2])
