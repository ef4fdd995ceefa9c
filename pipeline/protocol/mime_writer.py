"""multipart/related as it is sent (RFC 2387; SOAP Messages with Attachments): written around payloads, not over them.

What stands between the payloads is known beforehand, and so is the length; a payload is passed through in whatever
pieces it is read from its store.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from pipeline.protocol.mime_reader import MimeError, bare_id, boundary_of

ROOT_MEDIA_TYPE = "application/soap+xml"
ROOT_CONTENT_TYPE = f"{ROOT_MEDIA_TYPE}; charset=UTF-8"
_ID_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~@!$&'*+=")
"""Those that stand in a Content-ID (RFC 822, msg-id) and in a cid: URL (RFC 2392) alike."""


@dataclass(frozen=True, slots=True)
class AttachmentHead:
    """What is said of an attachment before its content: id without brackets, media type, size in bytes."""

    content_id: str
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Multipart:
    """A message around its payloads: `between[0]`, the first payload, `between[1]`, and so on."""

    content_type: str
    between: tuple[bytes, ...] = field(repr=False)
    sizes: tuple[int, ...]
    """Of the payloads, in order."""

    @property
    def content_length(self) -> int:
        return sum(map(len, self.between)) + sum(self.sizes)

    def stream(self, *payloads: Iterable[bytes]) -> Iterator[bytes]:
        """The bytes on the wire; no payload is held.

        Raises:
            MimeError: `mime.size`: a payload has another size than was said, so nothing more may be sent.
        """
        yield self.between[0]
        for payload, size, after in zip(payloads, self.sizes, self.between[1:], strict=True):
            left = size
            for piece in payload:
                left -= len(piece)
                if left < 0:
                    break
                yield piece
            if left:
                raise MimeError("mime.size", f"the payload does not have the {size} bytes that were announced")
            yield after


def multipart_related(root: bytes, root_id: str, attachments: Sequence[AttachmentHead], boundary: str) -> Multipart:
    """The SOAP envelope `root` with attachments in binary (ebMS 3.0 core, 5.1.1; RFC 2045, 6.2).

    `boundary` must be fresh: then no payload that was stored before can hold it.

    Raises:
        MimeError: `mime.boundary` not usable, or in the root; `mime.content-id` not writable, or used twice.
    """
    content_type = f'multipart/related; boundary="{boundary}"; type="{ROOT_MEDIA_TYPE}"; start="<{root_id}>"'
    # As a reader will find it: what is not usable as a boundary, or would end the parameter, is refused here.
    if boundary_of(content_type) != boundary:
        raise MimeError("mime.boundary", "the boundary holds what RFC 2046, 5.1.1 does not allow")
    if f"--{boundary}".encode() in root:
        raise MimeError("mime.boundary", "the boundary stands in the envelope: choose another")
    ids = [root_id, *(one.content_id for one in attachments)]
    if not all(one and _ID_CHARACTERS.issuperset(one) for one in ids) or len(set(ids)) != len(ids):
        raise MimeError("mime.content-id", "a Content-ID must be unique, and of letters, digits and -._~@!$&'*+=")
    between = [_head(boundary, ROOT_CONTENT_TYPE, root_id) + root]
    for one in attachments:
        between[-1] += b"\r\n" + _head(boundary, one.media_type, one.content_id)
        between.append(b"")
    between[-1] += f"\r\n--{boundary}--\r\n".encode()
    return Multipart(content_type, tuple(between), tuple(one.size for one in attachments))


def cid_url(content_id: str) -> str:
    """The URL of the part with this Content-ID (RFC 2392)."""
    return "cid:" + quote(content_id, safe="@!$&'*+=~")


def content_id_of(url: str) -> str | None:
    """The Content-ID that a `cid:` URL names, None for any other URL. The scheme is written in either case."""
    scheme, colon, rest = url.partition(":")
    return bare_id(unquote(rest)) if colon and scheme.lower() == "cid" else None


def _head(boundary: str, content_type: str, content_id: str) -> bytes:
    if not content_type.isascii() or not content_type.isprintable():
        raise MimeError("mime.header", "a media type must be printable ASCII")
    return (
        f"--{boundary}\r\nContent-Type: {content_type}\r\nContent-Transfer-Encoding: binary\r\n"
        f"Content-ID: <{content_id}>\r\n\r\n"
    ).encode()
