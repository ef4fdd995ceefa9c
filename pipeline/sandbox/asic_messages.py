"""The gateway's messages: which services there are, what a request of theirs says, and the replies (WIG 3.3)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from lxml import etree

from pipeline.protocol.namespaces import Ns
from pipeline.protocol.xml import canonical
from pipeline.sandbox.scenarios import Scenario, Script
from pipeline.sandbox.soap import FaultError, Name, envelope, node

ASIC_FAULT = "uri:sandbox.fault.asic.gov.au"
"""The guide maps its fault prefix to no namespace; this one is the sandbox's own."""
AEST = timezone(timedelta(hours=10))
_CLOCK_TOLERANCE = timedelta(minutes=5)
_OLDEST = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Service:
    """One message type. `updates` tells transactions, which are answered once, from queries (WIG 3.7)."""

    path: str
    namespace: str
    message_type: str
    version: int
    schema: str
    updates: bool = False

    def tag(self, local_name: str) -> str:
        return f"{{{self.namespace}}}{local_name}"


SERVICES = (
    Service(
        "/gateway/ExternalBnLodgeApplicationPortV1",
        "uri:v1.external.bn.lodge.application.asic.gov.au",
        "bnLodgeApplication",
        1,
        "bn-lodge-application-v1.xsd",
        updates=True,
    ),
    Service(
        "/gateway/ExternalQueryNameAvailabilityPortV2",
        "uri:v2.external.query.name.availability.asic.gov.au",
        "queryNameAvailability",
        2,
        "query-name-availability-v2.xsd",
    ),
    Service("/gateway/ExternalPingPort", "uri:v1.external.ping.asic.gov.au", "ping", 1, "ping-v1.xsd"),
)


@dataclass(frozen=True, slots=True)
class Message:
    """A request that keeps to its schema. `body_sha256` is of the canonical business document body."""

    service: Service
    header: etree._Element
    body: etree._Element
    body_sha256: str

    def value(self, name: str) -> str:
        """A field of the header; the schema says that it is there."""
        return self.header.findtext(Ns.ASIC_HEADER(name), "")


@dataclass(frozen=True, slots=True)
class Event:
    """A message event. `misspelt` writes the severity as the published schema does."""

    code: str
    severity: str
    description: str
    location: str | None = None
    details: tuple[str, ...] = ()
    misspelt: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What a reply says: one of accepted, rejected, delayed and fault, and why."""

    result: str
    events: Sequence[Event] = ()
    document_number: str | None = None
    body: Sequence[etree._Element] = ()


def asic_fault(code: str, reason: str) -> FaultError:
    """A client software error, `asic:<code>` (WIG 4.3.3.1)."""
    return FaultError((Name(code, "asic", ASIC_FAULT),), reason)


class Schemas:
    """The sandbox's own schemas, loaded once from beside this module."""

    def __init__(self) -> None:
        folder = Path(__file__).parent / "schema"
        self._schemas: Mapping[str, etree.XMLSchema] = {
            service.path: etree.XMLSchema(file=str(folder / service.schema)) for service in SERVICES
        }

    def read(self, service: Service, request: etree._Element, now: datetime) -> Message:
        """The request as a message.

        Raises:
            FaultError: `asic:FAULT.INVALIDXML`.
        """
        try:
            self._schemas[service.path].assertValid(request)
        except etree.DocumentInvalid as error:
            raise _invalid(str(error)) from error
        header, body = request
        message = Message(service, header, body, hashlib.sha256(canonical(body)).hexdigest())
        if request.tag != service.tag("request"):
            raise _invalid("a client sends request, not reply")
        if (message.value("messageType"), message.value("messageVersion")) != (
            service.message_type,
            str(service.version),
        ):
            raise _invalid(f"messageType and messageVersion must be {service.message_type} and {service.version}")
        _check_times(header, now)
        return message


def read_script(message: Message) -> Script:
    """How a synthetic lodgment wants to be treated."""
    element = message.body.find(message.service.tag("sandboxScenario"))
    if element is None:
        return Script()
    usual = Script()
    return Script(
        scenario=Scenario(element.text or ""),
        times=int(element.get("times", usual.times)),
        seconds=float(element.get("seconds", usual.seconds)),
    )


def reply(message: Message, finding: Finding, now: datetime) -> bytes:
    """The reply's envelope: a header that repeats the request's, the finding, and the body (WIG 3.3)."""
    hdr = Ns.ASIC_HEADER
    number = hashlib.sha256(message.value("messageReferenceNumber").encode()).hexdigest()[:12].upper()
    header = node(
        hdr("businessDocumentHeader"),
        node(hdr("messageType"), message.service.message_type),
        node(hdr("messageReferenceNumber"), message.value("messageReferenceNumber")),
        node(hdr("asicReferenceNumber"), f"SYN-{number}"),
        node(hdr("messageVersion"), str(message.service.version)),
        node(hdr("senderId"), message.value("senderId")),
        node(hdr("senderType"), message.value("senderType")),
        _timestamps(message, now),
        *_events(finding.events),
        node(hdr("result"), node(hdr(finding.result), "true")),
        *_document(finding.document_number),
        prefixes={"hdr": hdr.value},
    )
    body = node(message.service.tag("businessDocumentBody"), *finding.body)
    root = node(message.service.tag("reply"), header, body, prefixes={"msg": message.service.namespace})
    return envelope(root)


def wsdl(service: Service, url: str) -> bytes:
    """A small WSDL 1.1 description: enough to see that the service is there (WIG 6.2)."""
    tag, soap = "{http://schemas.xmlsoap.org/wsdl/}", "http://schemas.xmlsoap.org/wsdl/soap12/"
    name = service.path.rpartition("/")[2]
    address = node(f"{{{soap}}}address", attributes={"location": url}, prefixes={"soap12": soap})
    port = node(f"{tag}port", address, attributes={"name": name, "binding": f"tns:{name}Binding"})
    document = node(f"{tag}documentation", "SYNTHETIC. A sandbox service; not ASIC's WSDL.")
    root = node(
        f"{tag}definitions",
        document,
        node(f"{tag}service", port, attributes={"name": name}),
        attributes={"targetNamespace": service.namespace, "name": service.message_type},
        prefixes={"wsdl": tag[1:-1], "tns": service.namespace},
    )
    content: bytes = etree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def _check_times(header: etree._Element, now: datetime) -> None:
    """Times are Eastern Standard Time in summer too (WIG 3.5): daylight saving time shows as an hour ahead."""
    for element in header.iter(Ns.ASIC_HEADER("timestamp")):
        moment = datetime.fromisoformat(element.text or "").replace(tzinfo=AEST)
        if not now - _OLDEST <= moment <= now + _CLOCK_TOLERANCE:
            raise _invalid("messageTimestamp is not the present in Australian Eastern Standard Time (UTC+10)")


def _invalid(note: str) -> FaultError:
    return asic_fault("FAULT.INVALIDXML", f"The request does not validate against the service XML Schema: {note[:500]}")


def _timestamps(message: Message, now: datetime) -> etree._Element:
    hdr = Ns.ASIC_HEADER
    sent = [
        _stamp(stamp.findtext(hdr("timestamp"), ""), stamp.findtext(hdr("source"), ""))
        for stamp in message.header.iter(hdr("messageTimestamp"))
    ]
    own = now.astimezone(AEST).replace(tzinfo=None).isoformat(timespec="seconds")
    return node(hdr("messageTimestamps"), *sent[:9], _stamp(own, "ASIC"))


def _stamp(moment: str, source: str) -> etree._Element:
    hdr = Ns.ASIC_HEADER
    return node(hdr("messageTimestamp"), node(hdr("timestamp"), moment), node(hdr("source"), source))


def _events(events: Sequence[Event]) -> list[etree._Element]:
    hdr = Ns.ASIC_HEADER
    if not events:
        return []
    written = [
        node(
            hdr("messageEvent"),
            node(hdr("errorCode"), event.code),
            node(hdr("serverityCode" if event.misspelt else "severityCode"), event.severity),
            node(hdr("description"), event.description),
            *([] if event.location is None else [node(hdr("locationPath"), event.location)]),
            *(node(hdr("details"), detail) for detail in event.details),
        )
        for event in events
    ]
    return [node(hdr("messageEvents"), *written)]


def _document(number: str | None) -> list[etree._Element]:
    """The document number where the guide has it (3.3.1.11), and in an attachment's description (3.3.1.10)."""
    hdr = Ns.ASIC_HEADER
    if number is None:
        return []
    attachment = node(
        hdr("attachment"),
        node(hdr("documentType"), "SYNTHETIC record of registration"),
        node(hdr("documentNumber"), number),
        node(hdr("name"), f"{number}.pdf"),
        node(hdr("URL"), f"https://documents.sandbox.asic.invalid/{number}.pdf"),
    )
    return [node(hdr("attachments"), attachment), node(hdr("documentNumber"), number)]
