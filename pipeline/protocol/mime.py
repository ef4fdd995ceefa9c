"""Multipart replies: the root part of an MTOM or SwA message (MTOM 1.0, XOP 1.0, RFC 2387)."""

import base64
import binascii
import quopri
from email.message import Message
from email.parser import BytesHeaderParser

PART_HEADER_LIMIT = 16 * 1024
PART_LIMIT = 100


class MimeError(ValueError):
    """A multipart body that cannot be taken apart."""


def root_part(content_type: str, body: bytes) -> bytes:
    """The SOAP envelope of a reply: the part that `start` names, else the first; all of it where it is not multipart.

    Raises:
        MimeError: no boundary, no such part, or a damaged transfer encoding.
    """
    outer = Message()
    outer["Content-Type"] = content_type.replace("\r", " ").replace("\n", " ")
    if outer.get_content_maintype() != "multipart":
        return body
    boundary = outer.get_boundary()
    if not boundary or not boundary.isascii():
        raise MimeError("a multipart reply without a boundary")
    start = outer.get_param("start")
    for part in _parts(body, boundary.encode()):
        header, content = _split(part)
        if not isinstance(start, str) or str(header.get("Content-ID", "")).strip() == start:
            return _decoded(header, content)
    raise MimeError("the multipart reply has no root part")


def _parts(body: bytes, boundary: bytes) -> list[bytes]:
    """RFC 2046, 5.1.1: a delimiter stands at the start of a line; the line break before it belongs to it."""
    delimiter = b"\r\n--" + boundary
    pieces = (b"\r\n" + body).split(delimiter, PART_LIMIT)[1:]
    return [piece for piece in pieces if not piece.startswith(b"--")]


def _split(part: bytes) -> tuple[Message, bytes]:
    _, _, part = part.partition(b"\r\n")
    if part.startswith(b"\r\n"):
        return Message(), part[2:]
    head, separator, content = part.partition(b"\r\n\r\n")
    if not separator or len(head) > PART_HEADER_LIMIT:
        raise MimeError("a part without a readable header")
    return BytesHeaderParser().parsebytes(head), content


def _decoded(header: Message, content: bytes) -> bytes:
    match str(header.get("Content-Transfer-Encoding", "binary")).strip().lower():
        case "base64":
            try:
                return base64.b64decode(content)
            except binascii.Error as error:
                raise MimeError("the root part's base64 is damaged") from error
        case "quoted-printable":
            return quopri.decodestring(content)
        case _:
            return content
