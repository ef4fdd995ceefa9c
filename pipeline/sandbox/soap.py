"""SOAP 1.2 as the sandbox writes it: envelopes and faults, built as trees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from lxml import etree

from pipeline.protocol.namespaces import Ns

_NOTHING: Mapping[str, str] = {}
PREFIXES: Mapping[str, str] = {
    "env": Ns.SOAP.value,
    "wsse": Ns.WSSE.value,
    "wsu": Ns.WSU.value,
    "wsa": Ns.WSA.value,
}


@dataclass(frozen=True, slots=True)
class Name:
    """A QName to be written as text: faults carry their codes that way. Without namespace it is written bare."""

    local: str
    prefix: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.prefix}:{self.local}" if self.prefix else self.local


class FaultError(Exception):
    """A request that is answered with a SOAP fault."""

    def __init__(
        self,
        subcodes: Sequence[Name],
        reason: str,
        *,
        code: str = "Sender",
        detail: Sequence[etree._Element] = (),
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.subcodes = tuple(subcodes)
        self.reason = reason
        self.detail = tuple(detail)

    @classmethod
    def by_receiver(cls, subcodes: Sequence[Name], reason: str, detail: Sequence[etree._Element] = ()) -> Self:
        return cls(subcodes, reason, code="Receiver", detail=detail)


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back over HTTP."""

    status: int
    body: bytes
    content_type: str = "application/soap+xml; charset=utf-8"


def node(
    tag: str,
    *content: str | etree._Element,
    attributes: Mapping[str, str] = _NOTHING,
    prefixes: Mapping[str, str] = _NOTHING,
) -> etree._Element:
    """An element with its content in order; one string at most, before the children."""
    element = etree.Element(tag, dict(attributes), nsmap=prefixes)
    for part in content:
        if isinstance(part, str):
            element.text = part
        else:
            element.append(part)
    return element


def envelope(body: etree._Element, header: Sequence[etree._Element] = ()) -> bytes:
    """The bytes of a SOAP envelope around one body child.

    No declaration is dropped for being unused: libxml2 cannot see the prefixes that faults use in text.
    """
    root = etree.Element(Ns.SOAP("Envelope"), nsmap=PREFIXES)
    if header:
        etree.SubElement(root, Ns.SOAP("Header")).extend(header)
    etree.SubElement(root, Ns.SOAP("Body")).append(body)
    document: bytes = etree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def fault(error: FaultError, header: Sequence[etree._Element] = ()) -> Reply:
    """The fault as SOAP 1.2 part 1, 5.4 has it, with HTTP 500 (part 2, 7.5.2)."""
    root = etree.Element(Ns.SOAP("Fault"), nsmap=PREFIXES)
    code = etree.SubElement(root, Ns.SOAP("Code"))
    etree.SubElement(code, Ns.SOAP("Value")).text = f"env:{error.code}"
    for subcode in error.subcodes:
        code = etree.SubElement(code, Ns.SOAP("Subcode"))
        declared = {subcode.prefix: subcode.namespace} if subcode.prefix else {}
        etree.SubElement(code, Ns.SOAP("Value"), nsmap=declared).text = str(subcode)
    reason = etree.SubElement(root, Ns.SOAP("Reason"))
    text = etree.SubElement(reason, Ns.SOAP("Text"))
    text.set("{http://www.w3.org/XML/1998/namespace}lang", "en-AU")
    text.text = error.reason
    if error.detail:
        etree.SubElement(root, Ns.SOAP("Detail")).extend(error.detail)
    return Reply(500, envelope(root, header))


def timestamp(moment: datetime) -> str:
    """UTC with milliseconds and `Z`, as WS-Security timestamps are written."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
