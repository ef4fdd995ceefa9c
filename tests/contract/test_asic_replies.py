"""Every reply that ASIC, its gateway or something in between could send becomes an outcome or a named failure."""

import base64
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.channels.asic_replies import PingReply
from pipeline.channels.contract import Reply, Sent
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.outcome import Attachment, MessageEvent, Outcome, Result, Severity
from tests.doubles.asic import NAMESPACE, make_channel, make_lodgment

SOAP = "http://www.w3.org/2003/05/soap-envelope"
HEADER = "uri:business.document.header.types.asic.gov.au"
REFERENCE = "0199aabb-ccdd-7eef-8123-456789abcdef"
XML = "application/soap+xml; charset=utf-8"
ACCEPTED = "<h:result><h:accepted/></h:result>"


def reply(content: str = ACCEPTED, reference: str = REFERENCE) -> bytes:
    return (
        f'<env:Envelope xmlns:env="{SOAP}"><env:Body><n:reply xmlns:n="{NAMESPACE}" xmlns:h="{HEADER}"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><h:businessDocumentHeader>'
        f"<h:messageType>bnLodgeApplication</h:messageType><h:messageReferenceNumber>{reference}"
        f"</h:messageReferenceNumber>{content}</h:businessDocumentHeader><n:businessDocumentBody/></n:reply>"
        "</env:Body></env:Envelope>"
    ).encode()


def fault(side: str, *codes: str, reason: str = "why", detail: str = "") -> bytes:
    subcodes = ""
    for code in reversed(codes):
        subcodes = f"<env:Subcode><env:Value>{code}</env:Value>{subcodes}</env:Subcode>"
    detail = f"<env:Detail>{detail}</env:Detail>" if detail else ""
    return (
        f'<env:Envelope xmlns:env="{SOAP}" xmlns:asic="urn:asic" xmlns:wsse="urn:wsse"><env:Body><env:Fault>'
        f'<env:Code><env:Value>env:{side}</env:Value>{subcodes}</env:Code><env:Reason><env:Text xml:lang="en">'
        f"{reason}</env:Text></env:Reason>{detail}</env:Fault></env:Body></env:Envelope>"
    ).encode()


def read(body: bytes, status: int = 200, content_type: str = XML) -> Outcome | Failure:
    return make_channel().read_reply(Reply(status, content_type, body), Sent(make_lodgment()))


def outcome(body: bytes) -> Outcome:
    found = read(body)
    assert isinstance(found, Outcome), found
    return found


def failure(body: bytes, status: int = 200, content_type: str = XML) -> Failure:
    found = read(body, status, content_type)
    assert isinstance(found, Failure), found
    return found


def test_reads_everything_that_a_reply_says() -> None:
    found = outcome(
        reply(
            "<h:asicReferenceNumber>12345</h:asicReferenceNumber><h:messageTimestamps>"
            "<h:messageTimestamp><h:timestamp>2026-11-23T13:30:00</h:timestamp><h:source>sender</h:source>"
            "</h:messageTimestamp><h:messageTimestamp><h:timestamp>2026-11-23T13:30:07</h:timestamp>"
            "<h:source>ASIC</h:source></h:messageTimestamp></h:messageTimestamps><h:messageEvents>"
            "<h:messageEvent><h:errorCode>00047</h:errorCode><h:serverityCode>Error</h:serverityCode>"
            "<h:description>Name\n not   found</h:description><h:locationPath>/a/b[1]</h:locationPath>"
            "<h:details>one</h:details><h:details>two</h:details></h:messageEvent>"
            "<h:messageEvent><h:errorCode>00001</h:errorCode><h:severityCode>warning</h:severityCode>"
            "<h:description>Look again</h:description></h:messageEvent></h:messageEvents>"
            "<h:result><h:rejected>True</h:rejected></h:result><h:attachments><h:attachment>"
            "<h:documentType>PDF</h:documentType><h:documentNumber>7E1234567</h:documentNumber><h:name>r.pdf</h:name>"
            "<h:description>Record</h:description><h:URL>https://asic.example.test/r.pdf</h:URL></h:attachment>"
            "</h:attachments>"
        )
    )
    assert found == Outcome(
        result=Result.REJECTED,
        reference=REFERENCE,
        agency_reference="12345",
        document_number="7E1234567",
        events=(
            MessageEvent("00047", Severity.ERROR, "Name not found", "/a/b[1]", ("one", "two")),
            MessageEvent("00001", Severity.WARNING, "Look again"),
        ),
        attachments=(Attachment("PDF", "r.pdf", "Record", "https://asic.example.test/r.pdf", "7E1234567"),),
        agency_time="2026-11-23T13:30:07",
    )


def test_reads_an_unqualified_header_of_the_older_ports() -> None:
    body = re.sub(rb"(</?)h:", rb"\1", reply())
    assert outcome(body).result is Result.ACCEPTED


def test_prefers_the_document_number_of_the_header() -> None:
    attachment = "<h:attachments><h:attachment><h:documentNumber>B</h:documentNumber></h:attachment></h:attachments>"
    assert outcome(reply(f"{ACCEPTED}{attachment}<h:documentNumber>A</h:documentNumber>")).document_number == "A"


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("<h:accepted/>", Result.ACCEPTED),
        ("<h:accepted>true</h:accepted><h:rejected>false</h:rejected>", Result.ACCEPTED),
        ("<h:accepted>false</h:accepted><h:rejected>TRUE</h:rejected><h:delayed>0</h:delayed>", Result.REJECTED),
        ('<h:accepted xsi:nil="true"/><h:delayed> 1 </h:delayed>', Result.DELAYED),
    ],
)
def test_reads_the_one_result_that_is_set(result: str, expected: Result) -> None:
    assert outcome(reply(f"<h:result>{result}</h:result>")).result is expected


@pytest.mark.parametrize(
    "content",
    [
        "",
        "<h:result/>",
        "<h:result><h:accepted>false</h:accepted></h:result>",
        "<h:result><h:accepted>no</h:accepted></h:result>",
        '<h:result><h:accepted xsi:nil="1"/></h:result>',
        "<h:result><h:accepted/><h:rejected/></h:result>",
        "<h:result><h:accepted/><h:accepted/></h:result>",
        "<h:result><h:perhaps/></h:result>",
    ],
)
def test_a_missing_or_contradictory_result_is_unknown(content: str) -> None:
    found = failure(reply(content))
    assert (found.kind, found.code) == (FailureClass.UNKNOWN, "reply.result")


@pytest.mark.parametrize("reference", ["", "another", REFERENCE.upper(), REFERENCE + "0"])
def test_a_reply_to_another_message_is_never_an_outcome(reference: str) -> None:
    found = failure(reply(reference=reference))
    assert (found.kind, found.code) == (FailureClass.UNKNOWN, "reply.reference")


def test_the_result_fault_parks_until_asic_is_back() -> None:
    event = "<h:messageEvents><h:messageEvent><h:errorCode>00900</h:errorCode><h:description>down</h:description>"
    found = failure(reply(f"{event}</h:messageEvent></h:messageEvents><h:result><h:fault/></h:result>"))
    assert (found.kind, found.code, found.blast) == (FailureClass.UNAVAILABLE, "asic:result.fault", Blast.CHANNEL)
    assert found.detail == "00900 down"


@pytest.mark.parametrize("code", ["00005", "0005", "5"])
@pytest.mark.parametrize("reference", [REFERENCE, None])
def test_the_authentication_event_inside_a_good_reply_holds_the_credential(code: str, reference: str | None) -> None:
    events = (
        f"<h:messageEvents><h:messageEvent><h:errorCode>{code}</h:errorCode><h:serverityCode>error</h:serverityCode>"
        "<h:description>Authentication error</h:description></h:messageEvent></h:messageEvents>"
        "<h:result><h:rejected/></h:result>"
    )
    body = reply(events)
    if reference is None:
        body = re.sub(rb"<h:messageReferenceNumber>.*</h:messageReferenceNumber>", b"", body)
    found = failure(body)
    assert (found.kind, found.who, found.blast) == (
        FailureClass.OUR_CREDENTIAL,
        Party.OPERATOR,
        Blast.CREDENTIAL,
    )
    assert found.code == f"asic:{code}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (fault("Sender", "asic:FAULT.MALFORMEDXML"), FailureClass.OUR_DOCUMENT),
        (fault("Sender", "asic:.FAULT.MALFORMEDXML"), FailureClass.OUR_DOCUMENT),
        (fault("Sender", "asic:FAULT.INVALIDXML"), FailureClass.OUR_DOCUMENT),
        (fault("Sender", "asic.bn:FAULT.TOOBIG"), FailureClass.OUR_DOCUMENT),
        (fault("Sender", "ns7:FAULT.ATTACHMENTERROR"), FailureClass.OUR_DOCUMENT),
        (fault("Sender", "FAULT.UNKNOWNSERVICE"), FailureClass.OUR_DOCUMENT),
        (fault("Sender", "wsse:SecurityTokenUnavailable"), FailureClass.STALE_TOKEN),
        (fault("Sender", "wsse:FailedCheck"), FailureClass.STALE_TOKEN),
        (fault("Sender", "wsse:InvalidSecurityToken"), FailureClass.STALE_TOKEN),
        (fault("Sender", "wsse:FailedAuthentication"), FailureClass.OUR_CREDENTIAL),
        (fault("Receiver", "asic:FAULT.UNAVAILABLE"), FailureClass.UNAVAILABLE),
        (fault("Receiver", "asic:FAULT.UNAVAILABLE", "asic:FAULT.ASICNOTRESPONDING"), FailureClass.UNAVAILABLE),
        (fault("Receiver", "x:FAULT.UNAVAILABLE", "x:NEW"), FailureClass.UNAVAILABLE),
        (fault("MustUnderstand"), FailureClass.OUR_DOCUMENT),
        (fault("VersionMismatch"), FailureClass.OUR_DOCUMENT),
        (fault("Sender", "asic:FAULT.NEW"), FailureClass.OUR_DOCUMENT),
        (fault("Receiver", "asic:FAULT.NEW"), FailureClass.UNAVAILABLE),
        (fault("Sender"), FailureClass.OUR_DOCUMENT),
        (fault("Receiver"), FailureClass.UNAVAILABLE),
    ],
)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_every_fault_of_the_guide_has_its_class(body: bytes, expected: FailureClass, status: int) -> None:
    found = failure(body, status)
    assert found.kind is expected
    assert found.advice
    assert found.detail == "why"


def test_the_finest_known_subcode_is_what_operators_search_for() -> None:
    nested = fault("Receiver", "asic:FAULT.UNAVAILABLE", "asic:FAULT.ASICNOTRESPONDING")
    assert failure(nested, 500).code == "asic:FAULT.ASICNOTRESPONDING"
    assert failure(fault("Sender", "a:ONE", "a:TWO"), 500).code == "TWO"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, FailureClass.UNAVAILABLE),
        (403, FailureClass.UNAVAILABLE),
        (503, FailureClass.UNAVAILABLE),
        (504, FailureClass.UNKNOWN),
    ],
)
def test_an_unknown_fault_gives_way_to_a_telling_status(status: int, expected: FailureClass) -> None:
    assert failure(fault("Receiver", "x:GATEWAY"), status).kind is expected
    assert failure(fault("Sender", "asic:FAULT.INVALIDXML"), status).kind is FailureClass.OUR_DOCUMENT


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2026-11-23T20:00:00+11:00", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("2026-11-23T09:00:00Z", datetime(2026, 11, 23, 9, tzinfo=UTC)),
        ("\n 2026-11-23T19:00:00.5 ", datetime(2026, 11, 23, 9, 0, 0, 500_000, tzinfo=UTC)),
        ("soon", None),
        ("", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("99999-01-01T00:00:00", None),
    ],
)
def test_the_announced_time_is_read_from_any_namespace(said: str, expected: datetime | None) -> None:
    for detail in (
        f'<c:D xmlns:c="http://sbr.gov.au/comn/core.02.data"><c:AvailableAfter>{said}</c:AvailableAfter></c:D>',
        f"<AvailableAfter>{said}</AvailableAfter>",
    ):
        found = failure(fault("Receiver", "asic:FAULT.UNAVAILABLE", detail=detail), 500)
        assert (found.kind, found.available_after) == (FailureClass.UNAVAILABLE, expected)


def test_a_soap_1_1_fault_is_understood() -> None:
    soap11 = "http://schemas.xmlsoap.org/soap/envelope/"
    for code, expected in (
        ("s:Client", FailureClass.OUR_DOCUMENT),
        ("s:Server.Busy", FailureClass.UNAVAILABLE),
        ("s:VersionMismatch", FailureClass.OUR_DOCUMENT),
        ("asic:FAULT.UNAVAILABLE", FailureClass.UNAVAILABLE),
    ):
        body = (
            f'<s:Envelope xmlns:s="{soap11}"><s:Body><s:Fault><faultcode>{code}</faultcode>'
            "<faultstring>no</faultstring></s:Fault></s:Body></s:Envelope>"
        )
        assert failure(body.encode(), 500).kind is expected


@pytest.mark.parametrize(
    ("status", "expected", "code"),
    [
        (302, FailureClass.UNAVAILABLE, "http.302"),
        (301, FailureClass.OUR_DOCUMENT, "http.301"),
        (400, FailureClass.OUR_DOCUMENT, "http.400"),
        (401, FailureClass.UNAVAILABLE, "http.401"),
        (403, FailureClass.UNAVAILABLE, "http.403"),
        (404, FailureClass.UNAVAILABLE, "http.404"),
        (405, FailureClass.UNAVAILABLE, "http.405"),
        (410, FailureClass.OUR_DOCUMENT, "http.410"),
        (408, FailureClass.UNKNOWN, "http.408"),
        (413, FailureClass.OUR_DOCUMENT, "http.413"),
        (429, FailureClass.UNAVAILABLE, "http.429"),
        (500, FailureClass.UNKNOWN, "http.500"),
        (502, FailureClass.UNKNOWN, "http.502"),
        (503, FailureClass.UNAVAILABLE, "http.503"),
        (504, FailureClass.UNKNOWN, "http.504"),
        (520, FailureClass.UNKNOWN, "reply.xml.malformed"),
        (200, FailureClass.UNKNOWN, "reply.xml.malformed"),
    ],
)
def test_a_page_of_html_says_what_its_status_says(status: int, expected: FailureClass, code: str) -> None:
    found = failure(b"<html><p>Service unavailable<br></html>", status, "text/html")
    assert (found.kind, found.code) == (expected, code)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "reply.empty"),
        (b"  \n", "reply.empty"),
        (reply()[:-5], "reply.xml.malformed"),
        (b"<html/>", "reply.soap.envelope"),
        (b'{"status": "ok"}', "reply.xml.malformed"),
        (b"<!DOCTYPE a [<!ENTITY x 'y'>]>" + reply(), "reply.xml.doctype"),
        (f'<e:Envelope xmlns:e="{SOAP}"/>'.encode(), "reply.soap.body"),
        (f'<e:Envelope xmlns:e="{SOAP}"><e:Body/></e:Envelope>'.encode(), "reply.soap.body"),
        (f'<e:Envelope xmlns:e="{SOAP}"><e:Body><a/></e:Body></e:Envelope>'.encode(), "reply.header"),
        (reply().replace(b"</env:Body>", b"</env:Body><env:Body/>"), "reply.soap.body"),
    ],
)
def test_what_cannot_be_read_is_unknown(body: bytes, code: str) -> None:
    found = failure(body)
    assert (found.kind, found.code) == (FailureClass.UNKNOWN, code)


def test_success_under_an_error_status_is_not_believed() -> None:
    assert failure(reply(), 500).kind is FailureClass.UNKNOWN
    assert failure(reply(), 520).code == "reply.status"


@pytest.mark.parametrize("reason", ["one\r\nFAKE level=error", "a\x85b", "x\u202egnp.exe", "<b>bold</b>\n", "z" * 5000])
def test_foreign_text_cannot_forge_a_line(reason: str) -> None:
    escaped = reason.replace("<", "&lt;").replace("\r", "&#13;")
    detail = failure(fault("Sender", "asic:FAULT.INVALIDXML", reason=escaped), 500).detail
    assert detail.isprintable()
    assert len(detail) <= 1000


def test_an_unknown_code_is_cut_and_neutralised() -> None:
    code = failure(fault("Sender", "x:" + "A" * 500 + "\nB"), 500).code
    assert code == "A" * 100


def multipart(root: bytes, *, start: str = "", encoding: str = "binary", first: bytes = b"") -> tuple[str, bytes]:
    content_type = f'multipart/related; type="application/xop+xml"; boundary="b=1"{start}'
    head = f"Content-Type: application/xop+xml\r\nContent-Transfer-Encoding: {encoding}\r\nContent-ID: <root>\r\n\r\n"
    return content_type, b"".join(
        (b"preamble\r\n", first, b"--b=1\r\n", head.encode(), root, b"\r\n--b=1--\r\nepilogue")
    )


def test_reads_the_root_part_of_a_multipart_reply() -> None:
    attachment = b"--b=1\r\nContent-Type: application/pdf\r\nContent-ID: <pdf>\r\n\r\n%PDF\r\n"
    for content_type, body in (
        multipart(reply()),
        multipart(reply(), start='; start="<root>"', first=attachment),
        multipart(reply().replace(b"=", b"=3D"), encoding="quoted-printable"),
        multipart(base64.b64encode(reply()), encoding="base64"),
        ('multipart/related; boundary="b=1"', b"--b=1\r\n\r\n" + reply() + b"\r\n--b=1--"),
    ):
        found = read(body, content_type=content_type)
        assert isinstance(found, Outcome), found


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/related", b"--x\r\n\r\n<a/>"),
        ('multipart/related; boundary="b=1"', b""),
        ('multipart/related; boundary="b=1"', b"no parts"),
        ('multipart/related; boundary="b=1"', b"--b=1\r\nno header end"),
        multipart(reply(), start='; start="<other>"'),
        multipart(b"a", encoding="base64"),
        ('multipart/related; boundary="b=1"', b"--b=1\r\n\r\n" + reply() + b"\r\n--b=1-"),
    ],
)
def test_a_damaged_multipart_reply_is_unknown(content_type: str, body: bytes) -> None:
    found = failure(body, content_type=content_type)
    assert found.kind is FailureClass.UNKNOWN
    assert found.code in {"reply.multipart", "reply.empty"}


@given(st.integers(100, 999), st.text(max_size=40), st.binary(max_size=200))
def test_never_raises_for_noise(status: int, content_type: str, body: bytes) -> None:
    assert isinstance(read(body, status, content_type), Failure)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_never_raises_for_a_damaged_reply(data: st.DataObject) -> None:
    samples = (reply(), fault("Receiver", "a:b", detail="<AvailableAfter>x</AvailableAfter>"), multipart(reply())[1])
    body = bytearray(data.draw(st.sampled_from(samples)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=6))
    content_type = data.draw(st.sampled_from((XML, multipart(b"")[0], "")))
    found = read(bytes(body), data.draw(st.sampled_from((200, 500))), content_type)
    assert isinstance(found, Outcome | Failure)
    if isinstance(found, Outcome):
        assert found.reference == REFERENCE


def test_reads_the_echo_of_a_ping() -> None:
    stamp = "<h:messageTimestamps><h:messageTimestamp><h:timestamp>T</h:timestamp><h:source>ASIC</h:source>"
    body = reply(f"{stamp}</h:messageTimestamp></h:messageTimestamps>")
    assert make_channel().read_ping_reply(200, XML, body, REFERENCE) == PingReply(REFERENCE, "T")


def test_a_ping_that_fails_says_why() -> None:
    channel = make_channel()
    down = channel.read_ping_reply(200, XML, reply("<h:result><h:fault/></h:result>"), REFERENCE)
    refused = channel.read_ping_reply(500, XML, fault("Sender", "wsse:FailedCheck"), REFERENCE)
    assert isinstance(down, Failure)
    assert isinstance(refused, Failure)
    assert (down.kind, refused.kind) == (FailureClass.UNAVAILABLE, FailureClass.STALE_TOKEN)
