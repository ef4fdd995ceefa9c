"""A second client of the sandbox's SBR2 gateways, without a wire between: right unless it is told otherwise."""

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from pipeline.channels import mas_st
from pipeline.lodgment.references import TokenKey
from pipeline.protocol.as4_signature import SBR2_LAYOUT, SecurityLayout, signed_envelope
from pipeline.protocol.credential import Credential
from pipeline.protocol.ebms3 import ErrorSignal, PullRequest, Receipt, SignedReference, UserMessage
from pipeline.protocol.ebms3_reader import read_envelope
from pipeline.protocol.gzip_stream import MEDIA_TYPE, Compression
from pipeline.protocol.mime import Attachment, read_package
from pipeline.protocol.mime_writer import ROOT_CONTENT_TYPE, AttachmentHead, cid_url, multipart_related
from pipeline.protocol.sbr_ebms3 import Document, PartyKind, Push, SbrProfile, Software
from pipeline.protocol.wsse import AssertionReference, AttachedPart, identity_token
from pipeline.protocol.wstrust import SecurityToken
from pipeline.sandbox.answer import Answer
from pipeline.sandbox.home import SBR2_APPLIES_TO
from pipeline.sandbox.sbr2 import Door, Sbr2Gateways
from pipeline.sandbox.sbr2_message import PRODUCT
from pipeline.sandbox.sts import STS_PATH, TokenService
from tests.doubles.pay_jobs import SOFTWARE_ID
from tests.doubles.stp import ABN

PROFILE = SbrProfile()
CONTENT_ID = "payload@client.example.test"
SOFTWARE = Software(*PRODUCT.values())


def now() -> datetime:
    return datetime.now(UTC)


def fresh_id() -> str:
    return f"{uuid.uuid4()}@client.example.test"


def token_of(service: TokenService, credential: Credential, applies_to: str = SBR2_APPLIES_TO) -> SecurityToken:
    key = TokenKey("sandbox", f"https://localhost{STS_PATH}", applies_to, credential.id, None, None, mas_st.CLAIMS, 512)
    nonce = uuid.uuid4()
    sent = mas_st.request(mas_st.StsProfile(), credential, key, f"urn:uuid:{nonce}", now(), nonce.hex)
    reply = service.answer(sent.body, STS_PATH, now())
    token = mas_st.read_reply(sent, reply.status, reply.body, now())
    assert isinstance(token, SecurityToken), token
    return token


def push(message_id: str | None = None) -> UserMessage:
    return PROFILE.push(
        Push(
            message_id=message_id or fresh_id(),
            sender=PROFILE.party(PartyKind.ABN, ABN),
            service="http://sbr.gov.au/ato/payevnt/2020",
            action="Submit.004.00",
            conversation_id="conversation",
            document=Document(CONTENT_ID, "PAYEVNT", "part"),
            software=SOFTWARE,
            software_id=SOFTWARE_ID,
        ),
        now(),
    )


def pull(message_id: str) -> PullRequest:
    return PROFILE.pull(fresh_id(), message_id, now())


def gzipped(document: bytes) -> bytes:
    return b"".join(Compression((document,)))


@dataclass(frozen=True, slots=True)
class Wire:
    """A message as it is posted, and what its signature covers."""

    soap: bytes = field(repr=False)
    attachments: tuple[Attachment, ...]
    references: tuple[SignedReference, ...]

    def changed(self, old: bytes, new: bytes) -> "Wire":
        assert old in self.soap
        return replace(self, soap=self.soap.replace(old, new))

    def packed(self) -> tuple[str, bytes]:
        """Content type and body."""
        if not self.attachments:
            return ROOT_CONTENT_TYPE, self.soap
        heads = [AttachmentHead(one.content_id or "", one.media_type, len(one.content)) for one in self.attachments]
        package = multipart_related(self.soap, "root@client.example.test", heads, f"=_{uuid.uuid4().hex}")
        return package.content_type, b"".join(package.stream(*((one.content,) for one in self.attachments)))


@dataclass(frozen=True, slots=True)
class Said:
    """What a gateway answered: the ebMS code (None for no error), the agency's codes in it, and all of it."""

    code: str | None
    nested: tuple[str, ...]
    answer: Answer
    unit: Receipt | ErrorSignal | UserMessage

    @property
    def detail(self) -> str:
        assert isinstance(self.unit, ErrorSignal)
        return self.unit.errors[0].detail or ""


@dataclass(frozen=True, slots=True)
class Sbr2Client:
    """Signs with one credential and its token, and posts to the gateways of one sandbox."""

    gateways: Sbr2Gateways
    credential: Credential
    token: SecurityToken
    clock: Callable[[], datetime] = now

    def sealed(
        self,
        unit: UserMessage | PullRequest,
        contents: Sequence[tuple[str, bytes]] = (),
        layout: SecurityLayout = SBR2_LAYOUT,
    ) -> Wire:
        """`contents` are attachments by their Content-ID."""
        attachments = tuple(Attachment(name, MEDIA_TYPE, content) for name, content in contents)
        parts = [AttachedPart(cid_url(name), hashlib.sha256(content).digest()) for name, content in contents]
        identity = identity_token(self.token.assertion, AssertionReference.WSU_ID)
        envelope = signed_envelope(unit, self.credential, identity, parts, uuid.uuid4().hex, layout)
        return Wire(envelope.soap, attachments, envelope.references)

    async def post(self, wire: Wire, door: Door, gateway: str = "first") -> Said:
        content_type, body = wire.packed()
        return await self.post_bytes(content_type, body, door, gateway)

    async def post_bytes(self, content_type: str, body: bytes, door: Door, gateway: str = "first") -> Said:
        answer = await self.gateways.answer(gateway, door, content_type, body, self.clock())
        reply = answer.reply
        (unit,) = read_envelope(read_package(reply.content_type, (reply.body,)).root).units
        assert not isinstance(unit, PullRequest)
        if not isinstance(unit, ErrorSignal):
            return Said(None, (), answer, unit)
        (error,) = unit.errors
        return Said(error.code, error.nested_codes, answer, unit)

    async def push(self, document: bytes, unit: UserMessage | None = None, gateway: str = "first") -> Said:
        """Lodge a document as it should be."""
        wire = self.sealed(unit or push(), [(CONTENT_ID, gzipped(document))])
        return await self.post(wire, Door.PUSH, gateway)

    async def pull(self, message_id: str, gateway: str = "first") -> Said:
        return await self.post(self.sealed(pull(message_id)), Door.PULL, gateway)
