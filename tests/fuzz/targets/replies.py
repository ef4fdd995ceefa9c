"""What servers answer: SOAP, ebMS, multipart, gzip, message events, HTTP."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import cast

from aiohttp import ClientResponse
from multidict import CIMultiDict

from pipeline.channels import mas_st
from pipeline.channels.contract import Reply, Sent
from pipeline.gateway.reply import ReplyError, read_reply
from pipeline.gateway.wire import Wire
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.outcome import Outcome
from pipeline.protocol.as4_signature import plain_envelope
from pipeline.protocol.ebms3 import Ebms3Error
from pipeline.protocol.ebms3_reader import read_envelope as read_ebms
from pipeline.protocol.gzip_stream import Compression, GzipError, inflate
from pipeline.protocol.mime import read_package
from pipeline.protocol.mime_reader import MimeError
from pipeline.protocol.sbr_events import read_events
from pipeline.protocol.soap import read_envelope
from pipeline.protocol.wstrust import SecurityToken, TokenRequest
from pipeline.protocol.xml import XmlError
from tests.doubles import as4, asic, sbr2, sts_replies
from tests.doubles.stp import pay_event
from tests.fuzz.mutation import DER, XML, Form
from tests.fuzz.scratch import cuts
from tests.fuzz.target import Target, must

_LIMIT = 100_000
_HEADER = "uri:business.document.header.types.asic.gov.au"


def _asic_reply(inside: str) -> bytes:
    return (
        '200 application/soap+xml\n<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Body>'
        f'<n:reply xmlns:n="{asic.NAMESPACE}" xmlns:h="{_HEADER}"><h:businessDocumentHeader>'
        f"<h:messageType>bnLodgeApplication</h:messageType><h:messageReferenceNumber>{asic.LODGMENT_ID}"
        f"</h:messageReferenceNumber>{inside}</h:businessDocumentHeader></n:reply></e:Body></e:Envelope>"
    ).encode()


def _asic_seeds() -> Sequence[bytes]:
    event = (
        "<h:messageEvent><h:errorCode>S1</h:errorCode><h:severity>Error</h:severity><h:shortDescription>a"
        "</h:shortDescription><h:location>/a</h:location><h:detail>b</h:detail></h:messageEvent>"
    )
    attached = "<h:attachments><h:attachment><h:name>a.pdf</h:name><h:url>https://a.invalid/a</h:url></h:attachment></h:attachments>"
    fault = sts_replies.fault(["soap:Receiver", "asic:FAULT.UNAVAILABLE"], "later", "<a>2026-11-25T02:00:00+10:00</a>")
    multipart = (
        b'200 multipart/related; boundary="b"\n--b\r\nContent-Type: application/xop+xml\r\n\r\n'
        + _asic_reply("<h:result><h:accepted/></h:result>").partition(b"\n")[2]
        + b"\r\n--b--\r\n"
    )
    return (
        _asic_reply("<h:result><h:accepted/></h:result>" + attached),
        _asic_reply(f"<h:result><h:rejected/></h:result><h:messageEvents>{event * 2}</h:messageEvents>"),
        b"500 application/soap+xml\n" + fault,
        multipart,
    )


def _asic(data: bytes) -> None:
    found = asic.make_channel().read_reply(_reply(data), Sent(asic.make_lodgment()))
    must(isinstance(found, Outcome | Failure), "a reply is an outcome or a failure")


def _reply(data: bytes) -> Reply:
    """The first line is status and content type."""
    first, _, body = data.partition(b"\n")
    status, _, content_type = first.decode("latin-1").partition(" ")
    return Reply(int(status) if status.isdecimal() and len(status) == 3 else 200, content_type, body)


@cache
def _pushed() -> tuple[Sent, Sent]:
    """A push, and a question for its outcome."""
    prepared = sbr2.prepared(pay_event())
    row = sbr2.taken(prepared)
    head = sbr2.sealed(row, prepared.content).head
    asking = sbr2.taken(prepared, agency_reference=f"{row.reference}@{sbr2.DOMAIN}")
    return Sent(row, head), Sent(asking, head)


@cache
def _sbr2_seeds() -> tuple[bytes, ...]:
    message_id = f"{_pushed()[0].lodgment.reference}@{sbr2.DOMAIN}"
    found = sbr2.events(("CMN.ATO.GEN.402043", "Error", "1.2"), ("CMN.NEW.1", "Warning", None), maximum="Error")
    content_type, body = sbr2.response(message_id, found, content=found)
    return (
        b"200 application/soap+xml\n" + sbr2.receipt(message_id),
        b"500 application/soap+xml\n" + sbr2.error("EBMS:0004", "CMN.ATO.GEN.DuplicateTransmission: a", message_id),
        f"200 {content_type}\n".encode() + body,
    )


def _sbr2(data: bytes) -> None:
    for sent in _pushed():
        found = sbr2.make_channel().read_reply(_reply(data), sent)
        must(isinstance(found, Outcome | Failure), "a reply is an outcome or a failure")


def _token_seeds() -> Sequence[bytes]:
    reply = sts_replies.token_reply()
    fault = sts_replies.fault(
        ["soap:Sender", "wst:FailedAuthentication"], "Event Code: [E2014]", sts_replies.sts_fault_detail("E2014")
    )
    return reply, fault


def _token(data: bytes) -> None:
    sent = mas_st.StsRequest(
        "https://sts.invalid", (), b"", TokenRequest(sts_replies.APPLIES_TO), sts_replies.MESSAGE_ID, timedelta(0)
    )
    found = mas_st.read_reply(sent, 200, data, sts_replies.NOW)
    if isinstance(found, SecurityToken):
        must(found.expires_at > sts_replies.NOW, "no token is taken that has expired")
        must(sts_replies.PROOF_KEY_TEXT not in repr(found), "a token's repr keeps its key")
    else:
        must(sts_replies.PROOF_KEY_TEXT not in f"{found}", "a failure does not quote the key")
    mas_st.measured_skew(data, None, sts_replies.NOW, sts_replies.NOW)


def _soap(data: bytes) -> None:
    read_envelope(_reply(data).body)


def _ebms_seeds() -> Sequence[bytes]:
    receipt = sbr2.receipt("a@example.test", as4.sealed().envelope.references)
    return (
        receipt,
        sbr2.error("EBMS:0301", "CMN.ATO.GEN.XML03: a"),
        plain_envelope(as4.push(), "m"),
        plain_envelope(as4.pull(), "m"),
    )


def _ebms(data: bytes) -> None:
    read = read_ebms(data)
    for unit in read.units:
        try:
            written = plain_envelope(unit, "m")
        except XmlError:
            continue  # what may be read leniently need not be written
        # Times are read to the microsecond and written to the millisecond.
        moment = unit.info.timestamp
        info = replace(unit.info, timestamp=moment.replace(microsecond=moment.microsecond // 1000 * 1000))
        must(read_ebms(written).units == (replace(unit, info=info),), "a message written is the message that was read")


def _events_seeds() -> Sequence[bytes]:
    one = sbr2.events(("CMN.ATO.GEN.402043", "Error", "1.2"), ("CMN.NEW.1", "Warning", None), maximum="Error")
    return one, b'<?xml version="1.0" encoding="UTF-8"?>' + one + b'\xef\xbb\xbf<?xml version="1.0"?>' + one


def _events(data: bytes) -> None:
    for event in read_events(data):
        for item in event.items:
            must(bool(item.code), "an item has a code")
            must(len(item.detailed_text) <= 4 * len(data) + 1000, "a text with its parameters stays small")


def _mime_seeds() -> Sequence[bytes]:
    sealed = as4.sealed()
    bare = (
        b'multipart/related; boundary=b; start="<a>"\npreamble\n--b\nContent-ID: <a>\n\n<a/>\n--b\n\n\n--b--\nepilogue'
    )
    encoded = (
        b'multipart/related; boundary="b"\n--b\r\nContent-Transfer-Encoding: base64\r\nContent-Type: text/xml;\r\n'
        b" charset=utf-8\r\n\r\nPGEvPg==\r\n--b \r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=41\r\n--b--"
    )
    return f"{sealed.multipart.content_type}\n".encode() + sealed.body(), bare, encoded


def _mime(data: bytes) -> None:
    first, _, body = data.partition(b"\n")
    content_type = first.decode("latin-1")
    said = []
    for pieces in cuts(body):
        try:
            package = read_package(content_type, pieces)
            said.append(str([package.root, *((one, one.content) for one in package.attachments)]))
        except MimeError as error:
            said.append(error.code)
    must(len(set(said)) == 1, "the pieces in which it comes make no difference")


_MIME = Form(
    (*XML.pieces, Form().pieces[0]),
    (
        b"\r\n",
        b"\n",
        b"\r\n--b\r\n",
        b"\n--b--",
        b"--",
        b"Content-ID: <a>\r\n",
        b"\r\n\r\n",
        b"\t",
        b";",
        b'"',
        b"\\",
        b"base64",
    ),
)


def _gzip_seeds() -> Sequence[bytes]:
    one = b"".join(Compression((b"<a/>" * 50,)))
    return one, one * 2, gzip.compress(b"", mtime=0), b"".join(Compression((b"\0" * 60_000,)))


def _gzip(data: bytes) -> None:
    """In pieces of any size, and as the standard library reads it."""
    said: list[bytes | str] = []
    for pieces in cuts(data):
        try:
            said.append(b"".join(inflate(pieces, _LIMIT)))
        except GzipError as error:
            said.append(error.code)
    must(len(set(said)) == 1, "the pieces in which it comes make no difference")
    content = said[0]
    if isinstance(content, bytes):
        must(len(content) <= _LIMIT, "no more is inflated than allowed")
        must(gzip.decompress(data) == content, "the standard library reads the same")
        must(b"".join(inflate(Compression((content,)), _LIMIT)) == content, "written and read again it is the same")


class _Answer:
    """As much of an HTTP answer as is read: its status, headers, and body in pieces."""

    def __init__(self, data: bytes) -> None:
        head, _, self._body = data.partition(b"\n\n")
        lines = [line.partition(":") for line in head.decode("utf-8", "surrogateescape").splitlines()]
        self.status = 200
        self.headers = CIMultiDict((name.strip(), value.strip()) for name, _, value in lines)
        self.content_length = None
        self.content = self

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        step = min(size, 11)
        for start in range(0, len(self._body), step):
            yield self._body[start : start + step]


def _http_seeds() -> Sequence[bytes]:
    dated = b"Date: Wed, 25 Nov 2026 03:00:00 GMT\nContent-Type: text/xml\n"
    body = b"<a/>" * 50
    return (
        dated + b"\n" + body,
        dated + b"Content-Encoding: gzip\n\n" + gzip.compress(body, mtime=0),
        dated + b"Content-Encoding: deflate\n\n" + zlib.compress(b"\0" * 90_000),
    )


def _http(data: bytes) -> None:
    answer = cast("ClientResponse", _Answer(data))
    reply = asyncio.run(read_reply(answer, _LIMIT, Wire()))
    must(len(reply.body) <= _LIMIT, "no more is taken than allowed")


TARGETS = (
    Target("asic-reply", "never raises; an outcome or a failure", _asic_seeds, _asic, (), XML),
    Target("sbr2-reply", "never raises; an outcome or a failure", _sbr2_seeds, _sbr2, (), XML),
    Target("token-reply", "never raises; no expired token, no key quoted", _token_seeds, _token, (), XML),
    Target("soap-envelope", "one body child or a fault", _asic_seeds, _soap, (XmlError,), XML),
    Target("ebms3", "a message written is the message that was read", _ebms_seeds, _ebms, (XmlError, Ebms3Error), XML),
    Target(
        "sbr-events",
        "each item has a code; placeholders do not blow texts up",
        _events_seeds,
        _events,
        (XmlError,),
        XML,
    ),
    Target("mime", "the pieces in which it comes make no difference", _mime_seeds, _mime, (), _MIME),
    Target("gzip", "bounded; as the standard library; round trip", _gzip_seeds, _gzip, (), DER),
    Target(
        "http-reply",
        "bounded, whatever its coding and its Date",
        _http_seeds,
        _http,
        (ReplyError,),
        Form(values=(b"Date: ", b"Content-Encoding: gzip", b"+2400", b"-0000", b"Feb", b"99", b",", b"\n\n")),
    ),
)
