"""ASIC's replies: what came back, as an outcome or as a failure. Nothing here raises for what an agency could send.

Replies are believed by TLS alone and only as far as they name our own message; faults are claims of whoever answered.
"""

from dataclasses import dataclass

from lxml import etree

from pipeline.channels.asic_faults import default_rule, known_rule
from pipeline.channels.asic_header import AEST, ReplyHeader, find_header, read_header
from pipeline.channels.faults import TURNED_AWAY, available_after, turned_away
from pipeline.channels.foreign_text import plain
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.outcome import MessageEvent, Outcome, Result, Severity
from pipeline.protocol.mime import root_part
from pipeline.protocol.mime_reader import MimeError
from pipeline.protocol.soap import Fault, read_envelope
from pipeline.protocol.xml import XmlError

_AUTHENTICATION_ERROR = "5"
"""Error 00005, authentication (WIG 5.2), without its zero padding, which varies between ports."""
_ASK_AGAIN = (
    "Whether it was lodged is not known. It is sent again by itself under the same reference, which settles it."
)


@dataclass(frozen=True, slots=True)
class PingReply:
    """ASIC's echo of a ping (WIG 6.3.3). `agency_time` as ASIC wrote it, in AEST."""

    reference: str
    agency_time: str | None


def read_outcome(status: int, content_type: str, body: bytes, reference: str) -> Outcome | Failure:
    """The outcome of the message with our `reference`, or why there is none."""
    header = _read_own_header(status, content_type, body, reference)
    if isinstance(header, Failure):
        return header
    if len(header.results) != 1:
        said = ", ".join(header.results) or "nothing"
        return _unknown("reply.result", f"the result must say exactly one thing, it says: {said}")
    if header.results[0] is Result.FAULT:
        return _downstream_fault(header)
    return Outcome(
        result=header.results[0],
        reference=reference,
        agency_reference=header.agency_reference,
        document_number=header.document_number,
        events=header.events,
        attachments=header.attachments,
        agency_time=header.agency_time,
    )


def read_ping(status: int, content_type: str, body: bytes, reference: str) -> PingReply | Failure:
    """The answer to our ping, or why there is none. A result is not asked for: the guide calls the reply an echo."""
    header = _read_own_header(status, content_type, body, reference)
    if isinstance(header, Failure):
        return header
    return _downstream_fault(header) if Result.FAULT in header.results else PingReply(reference, header.agency_time)


def _read_own_header(status: int, content_type: str, body: bytes, reference: str) -> ReplyHeader | Failure:
    try:
        content = read_envelope(root_part(content_type, body))
    except (XmlError, MimeError) as error:
        shape = f"HTTP status {status}, content type {plain(content_type, 100)}, {len(body)} bytes"
        return _by_status(status) or _unreadable(body, error, shape)
    if isinstance(content, Fault):
        return _from_fault(content, status)
    if not 200 <= status < 300:
        return _by_status(status) or _unknown("reply.status", f"a reply without a fault came with HTTP status {status}")
    return _own_header(content, reference)


def _own_header(content: etree._Element, reference: str) -> ReplyHeader | Failure:
    node = find_header(content)
    if node is None:
        return _unknown("reply.header", "the reply has no businessDocumentHeader")
    header = read_header(node)
    if header.reference is not None and header.reference != reference:
        return _unknown("reply.reference", "the reply carries another messageReferenceNumber than the request")
    refused = next((event for event in header.events if _is_authentication_error(event)), None)
    if refused is not None and Result.ACCEPTED not in header.results:
        return _not_authenticated(f"asic:{refused.code}", refused.description)
    if header.reference is None:
        return _unknown("reply.reference", "the reply carries no messageReferenceNumber")
    return header


def _is_authentication_error(event: MessageEvent) -> bool:
    return event.code.lstrip("0") == _AUTHENTICATION_ERROR and event.severity is Severity.ERROR


def _from_fault(fault: Fault, status: int) -> Failure:
    """A known code says most; then an HTTP status, unless it is just that of any fault (SOAP 1.2 part 2, 7.5.2.2);
    then which side is at fault.
    """
    known = known_rule(fault.codes)
    if known is not None:
        code, rule = known
        return rule.failure(code, fault.reason, available_after(fault.detail, AEST))
    by_status = _by_status(status) if status not in {400, 500} else None
    if by_status is not None:
        return by_status
    code = plain(":".join(fault.codes[-1:]), 100) or "soap:Fault"
    return default_rule(fault.codes).failure(code, fault.reason, available_after(fault.detail, AEST))


def _downstream_fault(header: ReplyHeader) -> Failure:
    """`fault`: systems behind the gateway may be down (WIG 3.3.1.9)."""
    said = plain("; ".join(f"{event.code} {event.description}" for event in header.events))
    advice = (
        "ASIC answered, but its systems behind the gateway may be down. It is sent again by itself, same reference."
    )
    return Failure(FailureClass.UNAVAILABLE, "asic:result.fault", said, advice, Party.NOBODY, Blast.CHANNEL)


def _not_authenticated(code: str, detail: str) -> Failure:
    advice = (
        "ASIC does not accept who we say we are. Check user name and password, or the credential's registration with "
        "ASIC, in the settings of this environment; then release what is held."
    )
    return Failure(FailureClass.OUR_CREDENTIAL, code, detail, advice, Party.OPERATOR, Blast.CREDENTIAL)


def _by_status(status: int) -> Failure | None:
    """What an HTTP status says where no readable reply does; None where it says nothing about why.

    502 and 504 come from a gateway that had taken the request and lost the answer: ASIC may have processed it, so they
    are unknown like any other lost answer. 503 and 429 refuse before processing; so does what says 401,
    403, 404 or 405, which is not ASIC itself: whom or what ASIC does not accept, it tells in a reply (WIG 5.2).
    """
    code = f"http.{status}"
    match status:
        case _ if status in TURNED_AWAY:
            return turned_away(status)
        case 429 | 503 | 302 | 303 | 307:
            advice = "ASIC's gateway takes nothing now. Nothing to do: it is sent again by itself."
            return Failure(FailureClass.UNAVAILABLE, code, "", advice, Party.NOBODY, Blast.CHANNEL)
        case 408 | 500 | 502 | 504:
            return _unknown(code, f"the gateway answered with HTTP status {status} and no SOAP message")
        case 413:
            advice = "The gateway refuses the request as too large. Make the document smaller; lodge it as a new job."
            return Failure(FailureClass.OUR_DOCUMENT, code, "", advice, Party.PRODUCER)
        case _ if 300 <= status < 500:
            advice = (
                "Nothing takes lodgments at this address. Check the base URL and the action's path in the settings."
            )
            return Failure(FailureClass.OUR_DOCUMENT, code, "", advice, Party.OPERATOR, Blast.CHANNEL)
        case _:
            return None


def _unreadable(body: bytes, error: XmlError | MimeError, shape: str) -> Failure:
    if not body.strip():
        return _unknown("reply.empty", shape)
    return _unknown("reply.multipart" if isinstance(error, MimeError) else f"reply.{error.code}", shape)


def _unknown(code: str, detail: str) -> Failure:
    return Failure(FailureClass.UNKNOWN, code, detail, _ASK_AGAIN, Party.NOBODY)
