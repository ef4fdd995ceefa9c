"""A synthetic SBR2 environment: the channel, lodgments taken in by it, and answers as a gateway packs them."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from pipeline.channels.asic_profile import TokenTerms
from pipeline.channels.contract import Envelope, Prepared, SealOrder
from pipeline.channels.sbr2_profile import SERVICE, Gate, Sbr2Profile
from pipeline.channels.sbr2_stp import NAME, Sbr2Stp
from pipeline.lodgment.job import Agent, Employer, LodgmentJob, Payload, Sender
from pipeline.lodgment.lodgment import Lodgment
from pipeline.protocol.as4_signature import AGENCY_LAYOUT, SignedEnvelope, plain_envelope, signed_envelope
from pipeline.protocol.credential import Credential
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
from pipeline.protocol.mime_writer import AttachmentHead, cid_url, multipart_related
from pipeline.protocol.sbr_ebms3 import Software
from pipeline.protocol.wsse import AttachedPart
from tests.doubles.asic import TERMS, make_credential, make_lodgment, make_token
from tests.doubles.documents import AtHand
from tests.doubles.stp import ABN

NOW = datetime(2026, 11, 23, 3, 30, tzinfo=UTC)
DOMAIN = "pipeline.example.test"
GATES = {
    "first": Gate.at("https://one.agency.example.test"),
    "second": Gate.at("https://two.agency.example.test"),
}
SOFTWARE = Software("SYNTHETIC-0001", "Synthetic Payroll Pty Ltd", "Synthetic Pay", "1.0")
SOFTWARE_ID = "0004785936"
_ANSWER = MessageInfo("answer-1@agency.example.test", NOW)


def make_profile(terms: TokenTerms = TERMS) -> Sbr2Profile:
    return Sbr2Profile("sandbox", GATES, "second", terms, SOFTWARE, DOMAIN, software_ids=False)


def make_channel() -> Sbr2Stp:
    return Sbr2Stp(make_profile())


def make_job(action: str = "Submit", agent: Agent | None = None, employer: Employer | None = None) -> LodgmentJob:
    return LodgmentJob(
        job_id="synthetic",
        channel=NAME,
        service=SERVICE,
        action=action,
        sender=Sender(id="SYNTHETIC-SSP", type="SSP"),
        employer=employer or Employer(abn=ABN),
        agent=agent,
        payload=Payload(inline="synthetic"),
    )


def prepared(document: bytes, job: LodgmentJob | None = None) -> Prepared:
    return make_channel().prepare(job or make_job(), AtHand(document), NOW)


def taken(document: Prepared, **changes: object) -> Lodgment:
    """The lodgment that the intake makes of it."""
    return replace(
        make_lodgment(),
        channel=NAME,
        service=SERVICE,
        action="Submit",
        software_id=SOFTWARE_ID,
        facts=document.facts,
        order_key=document.order_key,
        payload_id=UUID(int=2),
        **changes,  # type: ignore[arg-type]  # fields of a lodgment, each by its name
    )


def sealed(lodgment: Lodgment, payload: bytes, nonce: str = "n1") -> Envelope:
    return make_channel().seal(SealOrder(lodgment, payload, make_credential(), make_token(), NOW, nonce))


def receipt(message_id: str, references: Sequence[SignedReference] = ()) -> bytes:
    info = replace(_ANSWER, ref_to_message_id=message_id)
    return plain_envelope(Receipt(info, tuple(references)), "m")


def error(code: str, detail: str | None = None, message_id: str | None = None) -> bytes:
    info = replace(_ANSWER, ref_to_message_id=message_id)
    one = EbmsError(code, ErrorSeverity.FAILURE, detail=detail, short_description="Synthetic")
    return plain_envelope(ErrorSignal(info, (one,)), "m")


def response(
    pulled: str, document: bytes, signer: Credential | None = None, content: bytes | None = None
) -> tuple[str, bytes]:
    """Content type and body of a pulled response; signed by `signer` if there is one."""
    attached = b"".join(Compression((document,))) if content is None else content
    content_id = "events@agency.example.test"
    agency = Party((PartyId("51824753556"),), "http://sbr.gov.au/agency")
    message = UserMessage(
        info=replace(_ANSWER, ref_to_message_id=pulled),
        sender=agency,
        receiver=agency,
        collaboration=Collaboration("http://sbr.gov.au/ato/payevnt/2020", "Submit.004.00", "c-1"),
        parts=(PartInfo(cid_url(content_id), (Property("CompressionType", MEDIA_TYPE),)),),
    )
    soap = plain_envelope(message, "m") if signer is None else _signed(message, signer, content_id, attached).soap
    heads = (AttachmentHead(content_id, MEDIA_TYPE, len(attached)),)
    package = multipart_related(soap, "root@agency.example.test", heads, "=_answer")
    return package.content_type, b"".join(package.stream((attached,)))


def _signed(message: UserMessage, signer: Credential, content_id: str, attached: bytes) -> SignedEnvelope:
    part = AttachedPart(cid_url(content_id), hashlib.sha256(attached).digest())
    return signed_envelope(message, signer, None, (part,), "a1", AGENCY_LAYOUT)


def events(*items: tuple[str, str, str | None], maximum: str = "Information") -> bytes:
    """An Event document: each item is a code, a severity, and the id of the record it is about."""

    def located(record: str | None) -> str:
        if record is None:
            return ""
        place = (
            f"<Location><Location.Instance.Identifier>{record}</Location.Instance.Identifier>"
            "<Location.Path.Text>/tns:PAYEVNTEMP/tns:Payee</Location.Path.Text></Location>"
        )
        return f"<Locations>{place}</Locations>"

    found = "".join(
        f"<EventItem><Error.Code>{code}</Error.Code><Severity.Code>{severity}</Severity.Code>"
        "<Short.Description>Synthetic</Short.Description><Detailed.Description>Payee {number} is odd"
        "</Detailed.Description><Parameters><Parameter><Parameter.Identifier>number</Parameter.Identifier>"
        f"<Parameter.Text>7</Parameter.Text></Parameter></Parameters>{located(record)}</EventItem>"
        for code, severity, record in items
    )
    return (
        f'<Event xmlns="http://sbr.gov.au/comn/event.02.data"><MaximumSeverity.Code>{maximum}'
        f"</MaximumSeverity.Code><EventItems>{found}</EventItems></Event>"
    ).encode()
