"""What an SBR2 gateway says: receipts and errors in the clear, responses signed by the agency (SBR ebMS3 WIG 1.7)."""

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from cryptography.hazmat.primitives.serialization import Encoding

from pipeline.protocol.as4_signature import AGENCY_LAYOUT, plain_envelope, signed_envelope
from pipeline.protocol.credential import Credential, RsaKey
from pipeline.protocol.ebms3 import (
    Collaboration,
    EbmsError,
    ErrorSeverity,
    ErrorSignal,
    MessageInfo,
    PartInfo,
    Party,
    PartyId,
    Property,
    Receipt,
    SignedReference,
    UserMessage,
)
from pipeline.protocol.gzip_stream import MEDIA_TYPE, Compression
from pipeline.protocol.mime_writer import ROOT_CONTENT_TYPE, AttachmentHead, cid_url, multipart_related
from pipeline.protocol.wsse import AttachedPart
from pipeline.sandbox.certificates import KeyPair
from pipeline.sandbox.sbr2_outcomes import ACCEPTED
from pipeline.sandbox.sbr2_scenarios import Packed
from pipeline.sandbox.soap import Reply

DOMAIN = "sbr2.sandbox.ato.invalid"
AGENCY = Party((PartyId("51824753556", "http://abr.gov.au/PartyIdType/ABN"),), "http://sbr.gov.au/agency")
EMPTY = "EBMS:0006"
_ERRORS: Mapping[str, tuple[str, str]] = {
    "EBMS:0001": ("ValueNotRecognized", "Content"),
    "EBMS:0003": ("ValueInconsistent", "Content"),
    "EBMS:0004": ("Other", "Content"),
    EMPTY: ("EmptyMessagePartitionChannel", "Communication"),
    "EBMS:0007": ("MimeInconsistency", "Unpackaging"),
    "EBMS:0009": ("InvalidHeader", "Unpackaging"),
    "EBMS:0101": ("FailedAuthentication", "Processing"),
    "EBMS:0102": ("FailedDecryption", "Processing"),
    "EBMS:0103": ("PolicyNoncompliance", "Processing"),
    "EBMS:0303": ("DecompressionFailure", "Communication"),
}
"""Short description and category of each code (ebMS 3.0 core, 6.7; AS4 profile 1.0, 3.1)."""


class RefusedError(Exception):
    """A message that is answered with an ebMS error. `code` is that of ebMS, `detail` may hold one of the agency's."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def receipt(message_id: str, references: Sequence[SignedReference], now: datetime) -> Reply:
    """The message arrived, and with it what these references are about (AS4 profile 1.0, 5.1.8)."""
    unit = Receipt(_info(message_id, now), tuple(references))
    return Reply(200, plain_envelope(unit, "messaging"), ROOT_CONTENT_TYPE)


def wrong_receipt(message_id: str, references: Sequence[SignedReference], now: datetime) -> Reply:
    """A receipt for octets that nobody sent."""
    return receipt(message_id, [replace(one, digest=hashlib.sha256(one.digest).digest()) for one in references], now)


def error(refusal: RefusedError, message_id: str | None, now: datetime) -> Reply:
    """An error signal. Nothing to pull is no failure; what is one comes with HTTP 500, as a fault would."""
    description, category = _ERRORS[refusal.code]
    one = EbmsError(
        refusal.code,
        ErrorSeverity.WARNING if refusal.code == EMPTY else ErrorSeverity.FAILURE,
        category=category,
        origin="ebMS",
        short_description=description,
        ref_to_message_in_error=message_id,
        detail=refusal.detail,
    )
    status = 200 if refusal.code == EMPTY else 500
    return Reply(status, plain_envelope(ErrorSignal(_info(message_id, now), (one,)), "messaging"), ROOT_CONTENT_TYPE)


class Answerer:
    """Signs responses with the agency's key."""

    def __init__(self, agency: KeyPair) -> None:
        der = agency.certificate.public_bytes(Encoding.DER)
        abn = AGENCY.ids[0].value
        self._credential = Credential("SYNTHETIC agency", abn, "SYNTHETIC", agency.certificate, der, RsaKey(agency.key))

    def response(
        self, message_id: str, service: tuple[str, str], events: bytes, packed: Packed, now: datetime
    ) -> Reply:
        """The outcome of the message that was pushed as `message_id`, with what its script does to it on the way.

        `service` and action are those of the push.
        """
        about = f"another-{message_id}" if packed is Packed.WRONG_REFERENCE else message_id
        content = b"".join(Compression((events,)))
        if packed is Packed.BROKEN_GZIP:
            content = content[:-4] + bytes(4)
        content_id = f"events-{uuid.uuid4()}@{DOMAIN}"
        soap = self._envelope(_message(about, service, content_id, now), content_id, content, packed)
        if packed is Packed.TAMPERED:
            content = b"".join(Compression((ACCEPTED.replace(b"message", b"MESSAGE"),)))
        heads = (AttachmentHead(content_id, MEDIA_TYPE, len(content)),)
        boundary = f"=_{uuid.uuid4().hex}"
        package = multipart_related(soap, f"root-{uuid.uuid4()}@{DOMAIN}", heads, boundary)
        body, content_type = b"".join(package.stream((content,))), package.content_type
        if packed is Packed.TRUNCATED:
            body = body[: len(body) - len(content) // 2]
        if packed is Packed.BROKEN_BOUNDARY:
            content_type = content_type.replace(boundary, f"=_{uuid.uuid4().hex}")
        return Reply(200, body, content_type)

    def _envelope(self, message: UserMessage, content_id: str, content: bytes, packed: Packed) -> bytes:
        if packed is Packed.UNSIGNED:
            return plain_envelope(message, "messaging")
        part = AttachedPart(cid_url(content_id), hashlib.sha256(content).digest())
        nonce = uuid.uuid4().hex
        return signed_envelope(message, self._credential, None, (part,), nonce, AGENCY_LAYOUT).soap


def _message(about: str, service: tuple[str, str], content_id: str, now: datetime) -> UserMessage:
    part = PartInfo(cid_url(content_id), (Property("CompressionType", MEDIA_TYPE), Property("MimeType", "text/xml")))
    return UserMessage(
        info=_info(about, now),
        sender=AGENCY,
        receiver=AGENCY,
        collaboration=Collaboration(*service, conversation_id=f"conversation-{uuid.uuid4()}"),
        parts=(part,),
    )


def _info(about: str | None, now: datetime) -> MessageInfo:
    return MessageInfo(f"{uuid.uuid4()}@{DOMAIN}", now, about)
