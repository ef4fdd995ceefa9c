"""The header of a push, judged: parties, service, properties, the one attachment (ATO ebMS3, as far as known)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipeline.lodgment.software_id import software_id_fault
from pipeline.protocol.ebms3 import Ebms3Error, Party, Property, UserMessage
from pipeline.protocol.ebms3_payloads import payloads
from pipeline.protocol.gzip_stream import MEDIA_TYPE as GZIP
from pipeline.protocol.gzip_stream import GzipError
from pipeline.sandbox.sbr2_answers import AGENCY, RefusedError
from pipeline.sandbox.sbr2_document import PayEvent, read_pay_event
from pipeline.sandbox.sbr2_security import Admitted

SERVICE = "http://sbr.gov.au/ato/payevnt/2020"
ACTIONS = frozenset({"Submit.004.00", "Update.004.00", "Adjust.004.00"})
PRODUCT: Mapping[str, str] = {
    "ProductID": "SYNTHETIC-PRODUCT-0001",
    "BMS Vendor": "SYNTHETIC Payroll Pty Ltd",
    "BMS Name": "SYNTHETIC Pay",
    "BMS Version": "1.0",
}
"""The one product on the sandbox's list, to the letter."""
DOCUMENT_LIMIT = 200 * 1024 * 1024
_BUSINESS, _AGENT = "http://sbr.gov.au/ato/Role/Business", "http://sbr.gov.au/ato/Role/Registered Agent"
_ROLES: Mapping[str | None, str] = {
    "http://abr.gov.au/PartyIdType/ABN": _BUSINESS,
    "http://ato.gov.au/PartyIdType/WPN": _BUSINESS,
    "http://ato.gov.au/PartyIdType/TAN": _AGENT,
}
_PART: Mapping[str, frozenset[str]] = {
    "PartID": frozenset(),
    "MimeType": frozenset({"text/xml", "text/plain"}),
    "CompressionType": frozenset({GZIP}),
    "DocumentName": frozenset({"PAYEVNT"}),
    "DocumentType": frozenset(),
}
"""The properties that the attachment must have, and the values that will do where not any will. Clients write both
media types: a document of delimited records is text that holds XML, and no XML itself."""
_CLOCK_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push whose header is in order, its document not read yet."""

    message_id: str
    sender: str
    is_business: bool
    service: tuple[str, str]
    software_id: str | None
    pieces: Iterator[bytes] = field(repr=False)

    def document(self) -> PayEvent:
        """The document, read to its end; may take as long as it is large.

        Raises:
            RefusedError: EBMS:0303 it does not inflate, EBMS:0003 it is about another business than the sender.
        """
        try:
            event = read_pay_event(self.pieces)
        except GzipError as error:
            raise RefusedError("EBMS:0303", f"{error.code}: {error}") from error
        if self.is_business and event.payers and event.payers != {self.sender}:
            raise RefusedError("EBMS:0003", "the document is about another business than the one in eb:From")
        return event


def read_push(admitted: Admitted, message: UserMessage, now: datetime) -> Pushed:
    """What is lodged, and by whom.

    Raises:
        RefusedError: EBMS:0001, EBMS:0003, EBMS:0007, or EBMS:0004 with the agency's own code.
    """
    sender = _sender(message.sender)
    if message.receiver != AGENCY:
        raise RefusedError("EBMS:0001", "eb:To must be the agency, by its ABN and its role")
    together = message.collaboration
    if together.service != SERVICE or together.action not in ACTIONS:
        raise RefusedError("EBMS:0001", f"no such service and action here; {SERVICE} has {', '.join(sorted(ACTIONS))}")
    if message.info.timestamp > now + _CLOCK_TOLERANCE:
        raise RefusedError("EBMS:0003", "eb:Timestamp is in the future")
    software_id = _software_id(message.properties, own_business=sender == admitted.signer.abn)
    return Pushed(
        message_id=message.info.message_id,
        sender=sender,
        is_business=message.sender.role == _BUSINESS,
        service=(together.service, together.action),
        software_id=software_id,
        pieces=_attached(admitted, message),
    )


def _sender(party: Party) -> str:
    (one, *others) = party.ids
    if others or _ROLES.get(one.type) != party.role:
        raise RefusedError("EBMS:0001", "eb:From must be one ABN, WPN or TAN in the role that goes with it")
    return one.value


def _software_id(properties: tuple[Property, ...], *, own_business: bool) -> str | None:
    """The SSID; who lodges for others must have one. The product must be as it is on the list."""
    given = {one.name: one.value for one in properties}
    for name, value in PRODUCT.items():
        if not given.get(name):
            raise _missing(name)
        if given[name] != value:
            text = f"SBR.GEN.FAULT.SERVICEACTIONDENIED: {name} is not as the product is registered"
            raise RefusedError("EBMS:0004", text)
    software_id = given.get("SoftwareSubscriptionId")
    if software_id is None and not own_business:
        raise RefusedError("EBMS:0004", "SBR.GEN.AUTH.008: who lodges for another business must give its software id")
    fault = None if software_id is None else software_id_fault(software_id)
    if fault is not None:
        raise RefusedError("EBMS:0004", f"SBR.GEN.AUTH.008: SoftwareSubscriptionId {fault}")
    return software_id


def _attached(admitted: Admitted, message: UserMessage) -> Iterator[bytes]:
    """The document in the one attachment, inflated as it is read."""
    if len(message.parts) != 1 or len(admitted.verified.attachments) != 1:
        text = f"CMN.ATO.GEN.UNEXPECTEDNUMPAYLOADS: {len(message.parts)} parts, exactly one is taken"
        raise RefusedError("EBMS:0004", text)
    try:
        (payload,) = payloads(message, admitted.verified.attachments)
    except Ebms3Error as error:
        raise RefusedError("EBMS:0007", f"{error.code}: {error}") from error
    given = {one.name: one.value for one in payload.part.properties}
    for name, values in _PART.items():
        if not given.get(name):
            raise _missing(f"Attachment-{name}")
        if values and given[name] not in values:
            text = f"CMN.ATO.EBMS.001: FieldId Attachment-{name} must be {' or '.join(sorted(values))}"
            raise RefusedError("EBMS:0004", text)
    return payload.document(DOCUMENT_LIMIT)


def _missing(field_id: str) -> RefusedError:
    return RefusedError("EBMS:0004", f"CMN.ATO.EBMS.001: FieldId {field_id} is missing")
