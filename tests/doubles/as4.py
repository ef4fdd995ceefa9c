"""Synthetic SBR2 messages: a push with one attachment, its signature, and keys to judge it by."""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pipeline.protocol.as4_signature import SBR2_LAYOUT, SecurityLayout, SignedEnvelope, signed_envelope
from pipeline.protocol.as4_verify import PUSH_POLICY, SignaturePolicy, Trust, Verified, verify_message
from pipeline.protocol.credential import Credential
from pipeline.protocol.ebms3 import PullRequest, UserMessage
from pipeline.protocol.gzip_stream import MEDIA_TYPE, Compression
from pipeline.protocol.mime import Attachment
from pipeline.protocol.mime_writer import AttachmentHead, Multipart, cid_url, multipart_related
from pipeline.protocol.sbr_ebms3 import Document, PartyKind, Push, SbrProfile, Software
from pipeline.protocol.wsse import AssertionReference, AttachedPart, identity_token
from tests.doubles.asic import make_assertion, make_credential

NOW = datetime(2026, 11, 23, 3, 30, tzinfo=UTC)
PROFILE = SbrProfile()
SOFTWARE = Software("SYNTHETIC-0001", "Synthetic Payroll Pty Ltd", "Synthetic Pay", "1.0")
MESSAGE_ID = "0199aabb-ccdd-7eef-8123-456789abcdef@pipeline.example.test"
CONTENT_ID = "payload-n1@pipeline.example.test"
BOUNDARY = "=_n1"
DOCUMENT = b'<Record_Delimiter DocumentID="1.1"/><a/>' * 40


def gzipped(document: bytes = DOCUMENT) -> bytes:
    return b"".join(Compression((document,)))


def push_order() -> Push:
    return Push(
        message_id=MESSAGE_ID,
        sender=PROFILE.party(PartyKind.ABN, "11000002568"),
        service="http://sbr.gov.au/ato/payevnt/2020",
        action="Submit.004.00",
        conversation_id="conversation-n1",
        document=Document(CONTENT_ID, "PAYEVNT", "part-1"),
        software=SOFTWARE,
        software_id="0004785936",
    )


def push() -> UserMessage:
    return PROFILE.push(push_order(), NOW)


def pull() -> PullRequest:
    return PROFILE.pull("pull-n1@pipeline.example.test", MESSAGE_ID, NOW)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A signed message, its attachments, and who signed it."""

    envelope: SignedEnvelope
    attachments: tuple[Attachment, ...]
    credential: Credential = field(repr=False)

    @property
    def multipart(self) -> Multipart:
        heads = [AttachmentHead(one.content_id or "", one.media_type, len(one.content)) for one in self.attachments]
        return multipart_related(self.envelope.soap, "root-n1@pipeline.example.test", heads, BOUNDARY)

    def body(self) -> bytes:
        return b"".join(self.multipart.stream(*((one.content,) for one in self.attachments)))

    def with_envelope(self, soap: bytes) -> "Sealed":
        return replace(self, envelope=SignedEnvelope(soap, self.envelope.references))

    def verify(self, policy: SignaturePolicy = PUSH_POLICY) -> Verified:
        return verify_message(self.envelope.soap, self.attachments, policy, trusting(self.credential))


def trusting(credential: Credential) -> Trust:
    """Trusts one credential, and only when the message names it."""
    return lambda named: credential.certificate if named == credential.certificate else None


def sealed(
    unit: UserMessage | PullRequest | None = None,
    content: bytes | None = None,
    *,
    assertion: bytes | None = None,
    layout: SecurityLayout = SBR2_LAYOUT,
) -> Sealed:
    """A push unless another unit is given; with an attachment unless `content` is empty."""
    credential = make_credential()
    content = gzipped() if content is None else content
    attachments = (Attachment(CONTENT_ID, MEDIA_TYPE, content),) if content else ()
    identity = identity_token(assertion or make_assertion(), AssertionReference.WSU_ID)
    envelope = signed_envelope(
        push() if unit is None else unit,
        credential,
        identity,
        [AttachedPart(cid_url(CONTENT_ID), hashlib.sha256(one.content).digest()) for one in attachments],
        "n1",
        layout,
    )
    return Sealed(envelope, attachments, credential)
