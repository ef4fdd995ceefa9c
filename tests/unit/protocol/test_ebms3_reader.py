"""Receipts, errors and answers as other people's servers write them."""

from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.protocol.ebms3 import Ebms3Error, ErrorSeverity, ErrorSignal, Receipt, UserMessage
from pipeline.protocol.ebms3_payloads import payloads
from pipeline.protocol.ebms3_reader import UNIT_LIMIT, read_envelope, read_messaging
from pipeline.protocol.gzip_stream import GzipError
from pipeline.protocol.mime import Attachment
from pipeline.protocol.xml import XmlError
from tests.doubles.as4 import CONTENT_ID, DOCUMENT, gzipped, push

EB = "http://docs.oasis-open.org/ebxml-msg/ebms/v3.0/ns/core/200704/"
SOAP = "http://www.w3.org/2003/05/soap-envelope"
INFO = (
    "<eb:MessageInfo><eb:Timestamp>2026-11-23T14:30:00.1234567+11:00</eb:Timestamp>"
    "<eb:MessageId>r@agency.example.test</eb:MessageId><eb:RefToMessageId>\n m@us.example.test </eb:RefToMessageId>"
    "</eb:MessageInfo>"
)
FAULT = (
    "<s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code><s:Reason><s:Text xml:lang='en'>No</s:Text></s:Reason>"
    "</s:Fault>"
)


def envelope(content: str, body: str = "") -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<s:Envelope xmlns:s="{SOAP}"><s:Header>'
        f'<eb:Messaging xmlns:eb="{EB}" s:mustUnderstand="true">{content}</eb:Messaging></s:Header>'
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def signal(content: str) -> bytes:
    return envelope(f"<eb:SignalMessage>{INFO}{content}</eb:SignalMessage>")


def error(attributes: str = 'errorCode="EBMS:0004" severity="failure"', content: str = "") -> bytes:
    return signal(f"<eb:Error {attributes}>{content}</eb:Error>")


def errors_in(document: bytes) -> ErrorSignal:
    (unit,) = read_envelope(document).units
    assert isinstance(unit, ErrorSignal)
    return unit


def refusal(document: bytes) -> str:
    with pytest.raises(Ebms3Error) as caught:
        read_envelope(document)
    return caught.value.code


def test_reads_an_error_with_the_agencys_own_code_in_its_detail() -> None:
    signal_ = errors_in(
        error(
            'errorCode="EBMS:0004" severity="Failure" category="Content" origin="ebMS" shortDescription="Other"'
            ' refToMessageInError="m@us.example.test"',
            '<eb:Description xml:lang="en">A  problem\n</eb:Description>'
            "<eb:ErrorDetail>CMN.ATO.GEN.DuplicateTransmission: "
            '<x:original xmlns:x="urn:x">first@us.example.test</x:original>; SBR.GEN.FAULT.FAULTFROMAGENCY, again '
            "CMN.ATO.GEN.DuplicateTransmission in sbr.gov.au or v1.2.3</eb:ErrorDetail>",
        )
    )
    (only,) = signal_.errors
    assert (only.code, only.severity, only.category, only.origin) == (
        "EBMS:0004",
        ErrorSeverity.FAILURE,
        "Content",
        "ebMS",
    )
    assert (only.short_description, only.description) == ("Other", "A problem")
    assert only.ref_to_message_in_error == "m@us.example.test"
    assert only.detail is not None
    assert "first@us.example.test" in only.detail
    assert only.nested_codes == ("CMN.ATO.GEN.DuplicateTransmission", "SBR.GEN.FAULT.FAULTFROMAGENCY")
    assert (signal_.info.message_id, signal_.info.ref_to_message_id) == ("r@agency.example.test", "m@us.example.test")
    assert signal_.info.timestamp.isoformat() == "2026-11-23T03:30:00.123456+00:00"
    assert not signal_.nothing_yet


@pytest.mark.parametrize(
    ("attributes", "codes"),
    [
        ('errorCode="EBMS:0004" severity="failure" shortDescription="CMN.ATO.AUTH.008"', ("CMN.ATO.AUTH.008",)),
        ('errorCode="SBR.GEN.AUTH.006" severity="failure"', ()),
    ],
)
def test_reads_nested_codes_from_the_short_description_too(attributes: str, codes: tuple[str, ...]) -> None:
    assert errors_in(error(attributes)).errors[0].nested_codes == codes


@pytest.mark.parametrize("code", ["EBMS:0006", "ebms:0006", " EBMS:0006 "])
def test_tells_an_empty_channel_from_a_failure(code: str) -> None:
    assert errors_in(error(f'errorCode="{code}" severity="warning"')).nothing_yet
    both = f'<eb:Error errorCode="{code}" severity="warning"/><eb:Error errorCode="EBMS:0101" severity="failure"/>'
    assert not errors_in(signal(both)).nothing_yet


@pytest.mark.parametrize(("written", "read"), [("warning", "warning"), ("WARNING", "warning"), ("", "failure")])
def test_what_is_no_warning_is_a_failure(written: str, read: str) -> None:
    assert errors_in(error(f'errorCode="EBMS:0001" severity="{written}"')).errors[0].severity == read


def test_reads_the_fault_that_goes_along_with_an_error_signal_and_a_fault_alone() -> None:
    content = f'<eb:SignalMessage>{INFO}<eb:Error errorCode="EBMS:0103" severity="failure"/></eb:SignalMessage>'
    together = read_envelope(envelope(content, FAULT))
    assert together.fault is not None
    assert (together.fault.codes, together.fault.reason, len(together.units)) == (("Sender",), "No", 1)
    alone = read_envelope(f'<s:Envelope xmlns:s="{SOAP}"><s:Body>{FAULT}</s:Body></s:Envelope>'.encode())
    assert (alone.units, alone.fault) == ((), together.fault)


def test_reads_a_soap_1_1_fault() -> None:
    soap11 = "http://schemas.xmlsoap.org/soap/envelope/"
    fault = "<s:Fault><faultcode>s:Server</faultcode><faultstring>Busy</faultstring></s:Fault>"
    read = read_envelope(f'<s:Envelope xmlns:s="{soap11}"><s:Body>{fault}</s:Body></s:Envelope>'.encode()).fault
    assert read is not None
    assert read.codes == ("Receiver",)


def test_reads_a_receipt_of_any_prefix_and_one_without_digests() -> None:
    reference = (
        '<Reference xmlns="http://www.w3.org/2000/09/xmldsig#" URI="#b"><Transforms><Transform Algorithm="urn:t"/>'
        '</Transforms><DigestMethod Algorithm="urn:d"/><DigestValue>\n AAEC\n </DigestValue></Reference>'
    )
    nri = (
        '<n:NonRepudiationInformation xmlns:n="http://docs.oasis-open.org/ebxml-bp/ebbp-signals-2.0">'
        f"<n:MessagePartNRInformation>{reference}</n:MessagePartNRInformation></n:NonRepudiationInformation>"
    )
    (full,) = read_envelope(signal(f"<eb:Receipt>{nri}</eb:Receipt>")).units
    assert isinstance(full, Receipt)
    (one,) = full.references
    assert (one.uri, one.digest_method, one.digest, one.transforms) == ("#b", "urn:d", b"\0\1\2", ("urn:t",))
    (bare,) = read_envelope(signal("<eb:Receipt><other/></eb:Receipt>")).units
    assert isinstance(bare, Receipt)
    assert bare.references == ()


def test_a_timestamp_is_in_utc_whether_it_says_so_or_not() -> None:
    written = signal("<eb:Receipt/>")
    bare, marked = (read_envelope(written.replace(b"+11:00", end)).units[0].info for end in (b"", b"Z"))
    assert bare.timestamp == marked.timestamp
    assert bare.timestamp.tzinfo is UTC


USER = (
    f"<eb:UserMessage>{INFO}<eb:PartyInfo><eb:From><eb:PartyId>a</eb:PartyId><eb:Role>r</eb:Role></eb:From><eb:To>"
    "<eb:PartyId>b</eb:PartyId><eb:Role>r</eb:Role></eb:To></eb:PartyInfo><eb:CollaborationInfo><eb:Service>s"
    "</eb:Service><eb:Action>a</eb:Action><eb:ConversationId>c</eb:ConversationId></eb:CollaborationInfo>"
    "</eb:UserMessage>"
)


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"<html/>", "ebms.envelope"),
        (f'<s:Envelope xmlns:s="{SOAP}"><s:Body/></s:Envelope>'.encode(), "ebms.envelope"),
        (envelope("", f'<eb:Messaging xmlns:eb="{EB}"/>'), "ebms.envelope"),
        (envelope(""), "ebms.empty"),
        (envelope("<eb:Other/>"), "ebms.unit"),
        (signal(""), "ebms.unit"),
        (signal('<eb:Receipt/><eb:Error errorCode="EBMS:0001" severity="failure"/>'), "ebms.unit"),
        (signal("<eb:Receipt/><eb:Receipt/>"), "ebms.twice"),
        (signal("<eb:Error severity='failure'/>"), "ebms.missing"),
        (signal("<eb:Error errorCode='E' severity='failure'/>" * (UNIT_LIMIT + 1)), "ebms.too-many"),
        (signal("<eb:Receipt/>").replace(b"+11:00", b"+11"), "ebms.value"),
        (signal("<eb:Receipt/>").replace(b"r@agency", b"r<!-- x -->@agency"), "ebms.value"),
        (signal("<eb:Receipt/>").replace(b"r@agency.example.test", b""), "ebms.missing"),
        (envelope(USER.replace("<eb:Action>a</eb:Action>", "")), "ebms.missing"),
        (envelope(USER.replace("<eb:PartyId>a</eb:PartyId>", "")), "ebms.missing"),
        (envelope(USER.replace("<eb:Action>a</eb:Action>", "<eb:Action>a</eb:Action>" * 2)), "ebms.twice"),
    ],
)
def test_refuses_what_is_no_message(document: bytes, code: str) -> None:
    assert refusal(document) == code


@pytest.mark.parametrize("document", [b"", b"<", b"<!DOCTYPE a []><a/>", signal("<eb:Receipt/>")[:-5]])
def test_refuses_what_is_no_xml(document: bytes) -> None:
    with pytest.raises(XmlError):
        read_envelope(document)


def test_reads_only_a_messaging_as_a_messaging() -> None:
    with pytest.raises(Ebms3Error):
        read_messaging(b"<a/>")


@pytest.mark.parametrize("end", range(0, len(signal("<eb:Receipt/>")) - 1, 7))
def test_a_reply_that_ends_early_is_no_receipt(end: int) -> None:
    with pytest.raises((XmlError, Ebms3Error)):
        read_envelope(signal("<eb:Receipt/>")[:end])


def attachment(content_id: str | None = CONTENT_ID, content: bytes | None = None) -> Attachment:
    return Attachment(content_id, "application/gzip", gzipped() if content is None else content)


def test_a_payload_is_found_by_its_reference_and_inflated_as_it_is_read() -> None:
    (payload,) = payloads(push(), (attachment(),))
    assert b"".join(payload.document(len(DOCUMENT))) == DOCUMENT
    with pytest.raises(GzipError, match="more than"):
        list(payload.document(len(DOCUMENT) - 1))


def test_a_payload_without_a_compression_property_is_judged_by_its_media_type() -> None:
    described = '<eb:PayloadInfo><eb:PartInfo href="CID:x%40y"/></eb:PayloadInfo></eb:UserMessage>'
    (user,) = read_envelope(envelope(USER.replace("</eb:UserMessage>", described))).units
    assert isinstance(user, UserMessage)
    (compressed,) = payloads(user, (attachment("x@y"),))
    assert b"".join(compressed.document(10**6)) == DOCUMENT
    (plain,) = payloads(user, (Attachment("x@y", "text/xml", b"<a/>"),))
    assert b"".join(plain.document(4)) == b"<a/>"
    with pytest.raises(Ebms3Error, match="more than the 3 bytes"):
        list(plain.document(3))


@pytest.mark.parametrize(
    ("attachments", "code"),
    [
        ((), "ebms.payload.missing"),
        ((attachment("other"),), "ebms.payload.missing"),
        ((attachment(), attachment("other")), "ebms.payload.unreferenced"),
        ((attachment(), attachment(None)), "ebms.payload.unreferenced"),
    ],
)
def test_refuses_attachments_that_do_not_fit_the_message(attachments: tuple[Attachment, ...], code: str) -> None:
    with pytest.raises(Ebms3Error) as caught:
        payloads(push(), attachments)
    assert caught.value.code == code


@pytest.mark.parametrize(("href", "code"), [(None, "body"), ("#body", "body"), (f"cid:{CONTENT_ID}", "twice")])
def test_refuses_parts_that_are_not_attachments_of_their_own(href: str | None, code: str) -> None:
    message = push()
    with pytest.raises(Ebms3Error) as caught:
        payloads(
            UserMessage(
                message.info,
                message.sender,
                message.receiver,
                message.collaboration,
                parts=(*message.parts, type(message.parts[0])(href)),
            ),
            (attachment(),),
        )
    assert caught.value.code == f"ebms.payload.{code}"


@settings(deadline=None)
@given(
    st.sampled_from([signal("<eb:Receipt/>"), error(), envelope(USER), envelope("", FAULT)]),
    st.integers(0, 2_000),
    st.integers(0, 40),
    st.one_of(
        st.binary(max_size=6), st.sampled_from((b"<eb:Error/>", b"<!-- -->", b"<![CDATA[]]>", b"<?x?>", b'x=""'))
    ),
)
def test_a_damaged_envelope_is_read_or_refused_but_never_breaks_the_reader(
    document: bytes, start: int, removed: int, put_in: bytes
) -> None:
    start %= len(document)
    try:
        read_envelope(document[:start] + put_in + document[start + removed :])
    except (XmlError, Ebms3Error):
        return
