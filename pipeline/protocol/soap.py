"""SOAP 1.2 over HTTP: the envelope around a spliced payload, and replies and faults read leniently."""

from dataclasses import dataclass, field
from functools import lru_cache

from lxml import etree

from pipeline.protocol.fragments import free_suffix, prefix_names, signed_form, start_tag
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.wsse import Part
from pipeline.protocol.xml import XmlError, escape_attribute, local_name, parse

CONTENT_TYPE = "application/soap+xml; charset=utf-8"
_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_PREFIXES = prefix_names("soap", "wsu", "msg")
_FAULT_LIMIT = 20
"""Nested subcodes that are read; the guide knows two."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around every request of one message type, written once for each choice of prefixes."""

    start: bytes
    secured_start: bytes
    """With a wsse:Security header that the receiver must understand (SOAP 1.2 part 1, 5.2.3), left open."""
    security_end: bytes
    body_start: str
    """Up to the value of the Body's `wsu:Id`."""
    request_start: str
    tail: bytes
    end: bytes

    @classmethod
    def around(cls, payload: bytes, namespace: str) -> "Frame":
        """The frame of `request` in the message's `namespace`, with prefixes under which none of the payload's
        declarations is superfluous (Exclusive C14N 1.0, 3).
        """
        return _frame(free_suffix(_PREFIXES, payload), namespace)


@lru_cache(maxsize=32)
def _frame(suffix: str, namespace: str) -> Frame:
    soap, wsu, request = f"soap{suffix}", f"wsu{suffix}", f"msg{suffix}:request"
    envelope = start_tag(f"{soap}:Envelope", {soap: Ns.SOAP})
    security = start_tag("wsse:Security", {"wsse": Ns.WSSE}, {f"{soap}:mustUnderstand": "true"})
    return Frame(
        start=_DECLARATION + envelope.encode(),
        secured_start=_DECLARATION + f"{envelope}<{soap}:Header>{security}".encode(),
        security_end=f"</wsse:Security></{soap}:Header>".encode(),
        body_start=start_tag(f"{soap}:Body", {soap: Ns.SOAP, wsu: Ns.WSU}).removesuffix(">") + f' {wsu}:Id="',
        request_start=f'">{start_tag(request, {f"msg{suffix}": namespace})}',
        tail=f"</{request}></{soap}:Body>".encode(),
        end=f"</{soap}:Envelope>".encode(),
    )


@dataclass(frozen=True, slots=True)
class Body:
    """A soap:Body around a payload: `head + payload + tail` in the message. `part` is what signatures cover."""

    head: bytes = field(repr=False)
    tail: bytes
    part: Part


def request_body(frame: Frame, body_id: str, header: str, payload: bytes) -> Body:
    """A Body with one child, `request`: `header`, a canonical fragment, then the payload, digested and not copied."""
    head = f"{frame.body_start}{escape_attribute(body_id)}{frame.request_start}{header}".encode()
    return Body(head, frame.tail, Part.of(body_id, head, signed_form(payload), frame.tail))


def envelope(frame: Frame, security: bytes | None, body: Body) -> tuple[bytes, bytes]:
    """What goes before and after the payload; `security` is the content of `wsse:Security`, if there is one."""
    if security is None:
        return frame.start + body.head, body.tail + frame.end
    return b"".join((frame.secured_start, security, frame.security_end, body.head)), body.tail + frame.end


@dataclass(frozen=True, slots=True)
class Fault:
    """A SOAP fault: unsigned, so nothing in it is more than a claim. `codes` are local names, the outermost first."""

    codes: tuple[str, ...]
    reason: str
    detail: etree._Element | None


def read_envelope(document: bytes) -> etree._Element | Fault:
    """The single child of the Body, or the fault. SOAP 1.1 is read too: version faults and older gateways write it.

    Raises:
        XmlError: not XML, or no envelope with one child in its Body (`soap.envelope`, `soap.body`).
    """
    root = parse(document)
    name = etree.QName(root)
    if name.localname != "Envelope" or name.namespace not in {Ns.SOAP, Ns.SOAP11}:
        raise XmlError("soap.envelope", "the root element is not a SOAP envelope")
    bodies = root.findall(f"{{{name.namespace}}}Body")
    children = [child for body in bodies for child in body.iterchildren("*")]
    if len(bodies) != 1 or len(children) != 1:
        raise XmlError("soap.body", "there is not one Body with one child (WIG 3.3)")
    if children[0].tag == Ns.SOAP("Fault"):
        return _fault(children[0])
    if children[0].tag == Ns.SOAP11("Fault"):
        return _fault_of_soap_1_1(children[0])
    return children[0]


def fault_of(envelope: etree._Element) -> Fault | None:
    """The fault in the Body of a parsed envelope, if there is one; nothing else about the envelope is checked."""
    found = envelope.find(f"{Ns.SOAP('Body')}/{Ns.SOAP('Fault')}")
    if found is not None:
        return _fault(found)
    found = envelope.find(f"{Ns.SOAP11('Body')}/{Ns.SOAP11('Fault')}")
    return None if found is None else _fault_of_soap_1_1(found)


def _fault(fault: etree._Element) -> Fault:
    """Nested Subcodes hold QNames whose prefixes vary between gateways: only their local names are compared."""
    codes: list[str] = []
    level = fault.find(Ns.SOAP("Code"))
    while level is not None and len(codes) < _FAULT_LIMIT:
        codes.append(_local(level.findtext(Ns.SOAP("Value"), "")))
        # MAS-ST 4.1.4.2 prints its path as SubCode.
        level = next(iter(level.iterchildren(Ns.SOAP("Subcode"), Ns.SOAP("SubCode"))), None)
    texts = fault.findall(f"{Ns.SOAP('Reason')}/{Ns.SOAP('Text')}")
    return Fault(tuple(codes), " ".join(_text(text) for text in texts), fault.find(Ns.SOAP("Detail")))


def _fault_of_soap_1_1(fault: etree._Element) -> Fault:
    """Codes may be refined after a dot: `Client.Authentication` (SOAP 1.1, 4.4.1)."""
    code = _local(fault.findtext("faultcode", ""))
    side, _, refinement = code.partition(".")
    named = {"Client": "Sender", "Server": "Receiver"}.get(side)
    codes = (code,) if named is None else (named, refinement) if refinement else (named,)
    return Fault(codes, fault.findtext("faultstring", ""), fault.find("detail"))


def _local(qname: str) -> str:
    return qname.strip().rpartition(":")[2]


def _text(node: etree._Element) -> str:
    return str(node.xpath("string()"))


def descendant(node: etree._Element, name: str) -> etree._Element | None:
    """The first element below `node` with this local name, in any namespace."""
    return next((below for below in node.iterdescendants("*") if local_name(below) == name), None)
