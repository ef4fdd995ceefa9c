"""What a receipt proves: that its sender had each octet we signed (AS4 profile 1.0, 5.1.8; ebBP signals 2.0).

Receipts are not signed on SBR2, so this is evidence of what was acknowledged and no proof of who did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.protocol.ebms3 import Receipt, SignedReference
from pipeline.protocol.mime_writer import content_id_of


class ReceiptFault(StrEnum):
    """A way in which a receipt does not fit the message that was sent."""

    OTHER_MESSAGE = "receipt.other-message"
    NO_DIGESTS = "receipt.no-digests"
    DIGEST = "receipt.digest"
    DIGEST_METHOD = "receipt.digest-method"
    MISSING = "receipt.missing"
    UNKNOWN = "receipt.unknown"
    TWICE = "receipt.twice"


@dataclass(frozen=True, slots=True)
class Disagreement:
    """`place` is the URI of the reference, or the MessageId that the receipt names."""

    fault: ReceiptFault
    place: str | None = None


def disagreements(receipt: Receipt, message_id: str, sent: Sequence[SignedReference]) -> tuple[Disagreement, ...]:
    """Where `receipt` differs from what was sent as `message_id` with the references `sent`; nothing if it agrees.

    Every reference must be there, with the method and digest that we signed, and no other. A receipt without any is
    reported as `NO_DIGESTS` alone: it may acknowledge the message, but not what was in it.
    """
    found: list[Disagreement] = []
    if receipt.info.ref_to_message_id != message_id:
        found.append(Disagreement(ReceiptFault.OTHER_MESSAGE, receipt.info.ref_to_message_id))
    if not receipt.references:
        return (*found, Disagreement(ReceiptFault.NO_DIGESTS))
    ours = {_place(one.uri): one for one in sent}
    seen: set[str] = set()
    for theirs in receipt.references:
        place = _place(theirs.uri)
        if place in seen:
            found.append(Disagreement(ReceiptFault.TWICE, theirs.uri))
            continue
        seen.add(place)
        if place not in ours:
            found.append(Disagreement(ReceiptFault.UNKNOWN, theirs.uri))
        elif theirs.digest_method != ours[place].digest_method:
            found.append(Disagreement(ReceiptFault.DIGEST_METHOD, theirs.uri))
        elif theirs.digest != ours[place].digest:
            found.append(Disagreement(ReceiptFault.DIGEST, theirs.uri))
    found += [Disagreement(ReceiptFault.MISSING, one.uri) for place, one in ours.items() if place not in seen]
    return tuple(found)


def _place(uri: str) -> str:
    """A `cid:` may be written with or without escapes and in either case of its scheme (RFC 2392)."""
    content_id = content_id_of(uri)
    return uri if content_id is None else f"cid:{content_id}"
