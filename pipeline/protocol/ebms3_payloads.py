"""The payloads of a user message: each part with the attachment it refers to, and nothing left over."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.protocol.ebms3 import Ebms3Error, PartInfo, UserMessage
from pipeline.protocol.gzip_stream import MEDIA_TYPE, inflate
from pipeline.protocol.mime import Attachment
from pipeline.protocol.mime_writer import content_id_of

_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Payload:
    """A payload as it was sent. `content` is compressed if `compressed` says so."""

    part: PartInfo
    content: bytes = field(repr=False)
    compressed: bool

    def document(self, limit: int) -> Iterator[bytes]:
        """The document in pieces, inflated as it is read.

        Raises:
            GzipError: as `inflate`.
            Ebms3Error: `ebms.payload.size`: an uncompressed document of more than `limit` bytes.
        """
        if self.compressed:
            yield from inflate(_cut(self.content), limit)
            return
        if len(self.content) > limit:
            raise Ebms3Error("ebms.payload.size", f"a payload has more than the {limit} bytes allowed")
        yield from _cut(self.content)


def payloads(message: UserMessage, attachments: Sequence[Attachment]) -> tuple[Payload, ...]:
    """The payloads of `message` in the order in which it describes them (ebMS 3.0 core, 5.2.2.12).

    Raises:
        Ebms3Error: `ebms.payload.missing` no such attachment; `ebms.payload.body` a payload in the SOAP body, which SBR
            does not use; `ebms.payload.twice` two parts share one; `ebms.payload.unreferenced` one that none describes.
    """
    left = {one.content_id: one for one in attachments}
    found: list[Payload] = []
    taken: set[str] = set()
    for part in message.parts:
        content_id = content_id_of(part.href or "")
        if content_id is None:
            raise Ebms3Error("ebms.payload.body", "a payload must be an attachment, referred to by cid:")
        if content_id in taken:
            raise Ebms3Error("ebms.payload.twice", "two parts refer to the same attachment")
        attachment = left.pop(content_id, None)
        if attachment is None:
            raise Ebms3Error("ebms.payload.missing", "an attachment that the message describes did not come with it")
        taken.add(content_id)
        found.append(Payload(part, attachment.content, compressed=_is_compressed(part, attachment)))
    if left:
        raise Ebms3Error("ebms.payload.unreferenced", "an attachment came that the message does not describe")
    return tuple(found)


def _is_compressed(part: PartInfo, attachment: Attachment) -> bool:
    """As the part property says (AS4 profile 1.0, 3.1), or else the MIME header."""
    said = next((one.value for one in part.properties if one.name == "CompressionType"), attachment.media_type)
    return said.strip().lower() == MEDIA_TYPE


def _cut(content: bytes) -> Iterator[bytes]:
    return (content[start : start + _PIECE] for start in range(0, len(content), _PIECE))
