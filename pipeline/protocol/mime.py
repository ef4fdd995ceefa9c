"""multipart/related in memory (RFC 2387; SOAP Messages with Attachments): a message's root part and its attachments."""

import base64
import binascii
import quopri
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.protocol.mime_reader import (
    DEFAULT_BOUNDS,
    Bounds,
    MimeError,
    PartData,
    PartStart,
    RelatedReader,
    bare_id,
    content_type_of,
)

_PIECE = 64 * 1024
"""Of a body at hand: more at once would only be copied more often."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part other than the root. `content_id` stands without brackets, None where the part has none."""

    content_id: str | None
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Package:
    """A message as HTTP carried it: the SOAP envelope, and what is attached to it."""

    root: bytes = field(repr=False)
    attachments: tuple[Attachment, ...] = ()


def read_package(content_type: str, pieces: Iterable[bytes], bounds: Bounds = DEFAULT_BOUNDS) -> Package:
    """The message in `pieces`; a body that is not multipart is a root part alone.

    The root is the part that `start` names, else the first (RFC 2387, 3.2). Transfer encodings are taken off.

    Raises:
        MimeError: `mime.boundary`, `mime.root`, `mime.encoding`, and all that `RelatedReader` finds.
    """
    outer = content_type_of(content_type)
    if not outer.media_type.startswith("multipart/"):
        return Package(_bounded(pieces, bounds.part_bytes))
    reader = RelatedReader(content_type, bounds)
    starts: list[PartStart] = []
    contents: list[list[bytes]] = []
    for piece in pieces:
        for event in reader.feed(piece):
            match event:
                case PartStart():
                    starts.append(event)
                    contents.append([])
                case PartData(data):
                    contents[-1].append(data)
    reader.finish()
    parts = []
    while starts:
        # The pieces of a part are let go as soon as they are joined.
        head = starts.pop()
        parts.append(Attachment(head.content_id, head.media_type, _decoded(head, b"".join(contents.pop()))))
    parts.reverse()
    root = _root(parts, outer.parameters.get("start"))
    return Package(root.content, tuple(part for part in parts if part is not root))


def root_part(content_type: str, body: bytes) -> bytes:
    """The SOAP envelope of a reply, whatever else came with it.

    Raises:
        MimeError: as `read_package`.
    """
    pieces = (body[start : start + _PIECE] for start in range(0, len(body), _PIECE))
    return read_package(content_type, pieces).root


def _bounded(pieces: Iterable[bytes], limit: int) -> bytes:
    collected: list[bytes] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > limit:
            raise MimeError("mime.part-size", f"the message has more than the {limit} bytes allowed")
        collected.append(piece)
    return b"".join(collected)


def _root(parts: list[Attachment], start: str | None) -> Attachment:
    if start is None:
        return parts[0]
    wanted = bare_id(start)
    found = next((part for part in parts if part.content_id == wanted), None)
    if found is None:
        raise MimeError("mime.root", "the multipart message has no root part: none has the Content-ID that start names")
    return found


def _decoded(head: PartStart, content: bytes) -> bytes:
    match head.transfer_encoding:
        case "base64":
            try:
                return base64.b64decode(b"".join(content.split()), validate=True)
            except binascii.Error as error:
                raise MimeError("mime.encoding", "the base64 of a part is damaged") from error
        case "quoted-printable":
            return quopri.decodestring(content)
        case "binary" | "8bit" | "7bit":
            return content
        case _:
            raise MimeError("mime.encoding", "a part has a Content-Transfer-Encoding that MIME does not know")
