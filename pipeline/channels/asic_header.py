"""The Business Document Header: written for requests in the schema's order, read from replies (WIG 3.3.1)."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from itertools import islice

from lxml import etree

from pipeline.channels.asic_profile import ServiceEntry, Software
from pipeline.channels.foreign_text import plain
from pipeline.lodgment.outcome import Attachment, MessageEvent, Result, Severity
from pipeline.protocol.fragments import start_tag
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import escape_text

AEST = timezone(timedelta(hours=10), "AEST")
"""Australian Eastern Standard Time, in summer too (WIG 3.5)."""
EVENT_LIMIT = 1_000
"""Message events that are kept; the schema allows 100."""
_START = start_tag("hdr:businessDocumentHeader", {"hdr": Ns.ASIC_HEADER})
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What the header of one request says. `created_at` is the same for every sealing of one lodgment."""

    reference: str
    sender_id: str
    sender_type: str
    created_at: datetime


def request_header(facts: RequestFacts, entry: ServiceEntry, software: Software | None) -> str:
    """`businessDocumentHeader` as a canonical fragment."""
    message_type, version, about = _same_for_all(entry.message_type, entry.message_version, software)
    return (
        f"{_START}{message_type}"
        f"{_leaf('messageReferenceNumber', facts.reference)}"
        f"{version}"
        f"{_leaf('senderId', facts.sender_id)}"
        f"{_leaf('senderType', facts.sender_type)}"
        f"{about}"
        f"<hdr:messageTimestamps><hdr:messageTimestamp><hdr:timestamp>{_aest(facts.created_at)}</hdr:timestamp>"
        f"<hdr:source>sender</hdr:source></hdr:messageTimestamp></hdr:messageTimestamps></hdr:businessDocumentHeader>"
    )


@lru_cache(maxsize=32)
def _same_for_all(message_type: str, version: int, software: Software | None) -> tuple[str, str, str]:
    """`messageType`, `messageVersion` and `softwareInformation`, which no lodgment changes, written once."""
    about = (
        ""
        if software is None
        else "<hdr:softwareInformation>"
        f"{_leaf('organisationalName', software.organisation)}"
        f"{_leaf('productName', software.product)}"
        f"{_leaf('productVersion', software.version)}</hdr:softwareInformation>"
    )
    return _leaf("messageType", message_type), _leaf("messageVersion", str(version)), about


def _leaf(name: str, value: str) -> str:
    return f"<hdr:{name}>{escape_text(value)}</hdr:{name}>"


def _aest(moment: datetime) -> str:
    return moment.astimezone(AEST).isoformat(timespec="seconds").removesuffix("+10:00")


@dataclass(frozen=True, slots=True)
class ReplyHeader:
    """The header of a reply, as far as it is used. `results` are the verdicts that are set: one, in a good reply."""

    message_type: str | None
    reference: str | None
    agency_reference: str | None
    document_number: str | None
    agency_time: str | None
    results: tuple[Result, ...]
    events: tuple[MessageEvent, ...]
    attachments: tuple[Attachment, ...]


def find_header(reply: etree._Element) -> etree._Element | None:
    """The header of a `reply`, whose own namespace differs from message to message."""
    return _child(reply, "businessDocumentHeader")


def read_header(header: etree._Element) -> ReplyHeader:
    """The header's content, none of it believed yet."""
    attachments = tuple(_attachment(node) for node in _children(_child(header, "attachments"), "attachment"))
    numbers = (_value(header, "documentNumber"), *(attachment.document_number for attachment in attachments))
    return ReplyHeader(
        message_type=_value(header, "messageType"),
        reference=_value(header, "messageReferenceNumber"),
        agency_reference=_value(header, "asicReferenceNumber"),
        document_number=next((number for number in numbers if number), None),
        agency_time=_agency_time(header),
        results=_results(_child(header, "result")),
        events=tuple(_event(node) for node in _children(_child(header, "messageEvents"), "messageEvent")),
        attachments=attachments,
    )


def _children(parent: etree._Element | None, name: str) -> list[etree._Element]:
    """Children in the header's namespace; unqualified ones too, as some of ASIC's older ports write them."""
    if parent is None:
        return []
    return list(islice(parent.iterchildren(Ns.ASIC_HEADER(name), name), EVENT_LIMIT))


def _child(parent: etree._Element, name: str) -> etree._Element | None:
    return next(parent.iterchildren(Ns.ASIC_HEADER(name), name), None)


def _text(node: etree._Element) -> str:
    return plain(str(node.xpath("string()")))


def _value(parent: etree._Element, name: str) -> str | None:
    node = _child(parent, name)
    return None if node is None else _text(node) or None


def _results(result: etree._Element | None) -> tuple[Result, ...]:
    if result is None:
        return ()
    verdicts = (Result.ACCEPTED, Result.REJECTED, Result.DELAYED, Result.FAULT)
    return tuple(verdict for verdict in verdicts for node in _children(result, verdict.value) if _is_set(node))


def _is_set(node: etree._Element) -> bool:
    """Empty as in the schema, or true as in the guide (WIG 3.3.1.9); any other word is not taken for a verdict."""
    return node.get(_NIL) not in {"true", "1"} and _text(node).casefold() in {"", "true", "1"}


def _event(node: etree._Element) -> MessageEvent:
    """The schema spells `serverityCode`, the guide `severityCode` (WIG 3.3.1.8); an unreadable one is an error."""
    severity = (_value(node, "serverityCode") or _value(node, "severityCode") or "").capitalize()
    return MessageEvent(
        code=(_value(node, "errorCode") or "")[:20],
        severity=Severity(severity) if severity in set(Severity) else Severity.ERROR,
        description=_value(node, "description") or "",
        location=_value(node, "locationPath"),
        details=tuple(text for detail in _children(node, "details") if (text := _text(detail))),
    )


def _attachment(node: etree._Element) -> Attachment:
    return Attachment(
        document_type=_value(node, "documentType"),
        name=_value(node, "name"),
        description=_value(node, "description"),
        url=_value(node, "URL"),
        document_number=_value(node, "documentNumber"),
    )


def _agency_time(header: etree._Element) -> str | None:
    for stamp in _children(_child(header, "messageTimestamps"), "messageTimestamp"):
        if (_value(stamp, "source") or "").casefold() == "asic":
            return _value(stamp, "timestamp")
    return None
