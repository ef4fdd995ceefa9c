"""ebMS 3.0 messages read (OASIS ebMS 3.0 core, 5.2, 6.2): lenient about what may be left out, strict about values.

What is read is no more than a claim unless it comes from `as4_verify`: receipts, errors and synchronous replies are not
signed. An HTTP status says nothing here: an error signal or a receipt in a 500 is read like any other.
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lxml import etree

from pipeline.protocol.ebms3 import (
    Agreement,
    Collaboration,
    Ebms3Error,
    EbmsError,
    ErrorSeverity,
    ErrorSignal,
    MessageInfo,
    PartInfo,
    Party,
    PartyId,
    Property,
    PullRequest,
    Receipt,
    SignedReference,
    Unit,
    UserMessage,
)
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.soap import Fault, fault_of
from pipeline.protocol.timestamps import instant_of
from pipeline.protocol.xml import XmlError, parse, text_of

UNIT_LIMIT = 50
"""Messages in one eb:Messaging, errors in one signal, parts and properties in one list are far fewer."""
_NESTED_CODE = re.compile(r"\b(?:[A-Z][A-Z0-9]{1,11}\.){2,5}[A-Za-z0-9]{1,40}\b")
"""`CMN.ATO.GEN.DuplicateTransmission`, `SBR.GEN.AUTH.006`."""
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Reply:
    """What an envelope says: its messages, and the SOAP fault that may go along with an error signal."""

    units: tuple[Unit, ...]
    fault: Fault | None


def read_envelope(document: bytes) -> Reply:
    """The messages of a SOAP 1.2 envelope, none of them verified. A bare SOAP fault has none.

    Raises:
        XmlError: not XML.
        Ebms3Error: `ebms.envelope` no envelope, or neither a message nor a fault in it; and as `read_messaging`.
    """
    root = parse(document)
    name = etree.QName(root)
    if name.localname != "Envelope" or name.namespace not in {Ns.SOAP, Ns.SOAP11}:
        raise Ebms3Error("ebms.envelope", "the reply is no SOAP envelope")
    fault = fault_of(root)
    headers = list(root.iter(Ns.EBMS3("Messaging")))
    if not headers and fault is not None:
        return Reply((), fault)
    if len(headers) != 1 or headers[0].getparent() is not root.find(f"{{{name.namespace}}}Header"):
        raise Ebms3Error("ebms.envelope", f"there must be one eb:Messaging, in the Header; there are {len(headers)}")
    return Reply(_units(headers[0]), fault)


def read_messaging(messaging: bytes) -> tuple[Unit, ...]:
    """The messages in an eb:Messaging, as `as4_verify` hands it on.

    Raises:
        XmlError: not XML.
        Ebms3Error: `ebms.empty`, `ebms.unit`, `ebms.missing`, `ebms.value`, `ebms.twice` or `ebms.too-many`.
    """
    root = parse(messaging)
    if root.tag != Ns.EBMS3("Messaging"):
        raise Ebms3Error("ebms.envelope", "this is no eb:Messaging")
    return _units(root)


def _units(messaging: etree._Element) -> tuple[Unit, ...]:
    children = list(messaging.iterchildren("*"))
    if not children:
        raise Ebms3Error("ebms.empty", "the eb:Messaging holds no message")
    return _each(children, _unit)


def _unit(node: etree._Element) -> Unit:
    if node.tag == Ns.EBMS3("UserMessage"):
        return _user_message(node)
    if node.tag != Ns.EBMS3("SignalMessage"):
        raise Ebms3Error("ebms.unit", "eb:Messaging holds something that is no message")
    info = _message_info(node)
    errors = node.findall(Ns.EBMS3("Error"))
    pull, receipt = _optional(node, "PullRequest"), _optional(node, "Receipt")
    if sum((bool(errors), pull is not None, receipt is not None)) != 1:
        raise Ebms3Error("ebms.unit", "a signal is one of pull request, receipt and errors")
    if pull is not None:
        return PullRequest(info, _optional_text(pull, "RefToMessageId"), pull.get("mpc"))
    if receipt is not None:
        return Receipt(info, _receipt_references(receipt))
    return ErrorSignal(info, _each(errors, _error))


def _message_info(message: etree._Element) -> MessageInfo:
    node = _required(message, "MessageInfo")
    try:
        # It is in UTC whether it says so or not: the Z is optional (5.2.2.1).
        timestamp = instant_of(_required(node, "Timestamp"), bare_is_utc=True)
    except XmlError as error:
        raise Ebms3Error("ebms.value", "eb:Timestamp is no date and time") from error
    return MessageInfo(_text(node, "MessageId"), timestamp, _optional_text(node, "RefToMessageId"))


def _user_message(node: etree._Element) -> UserMessage:
    parties = _required(node, "PartyInfo")
    properties, payloads = _optional(node, "MessageProperties"), _optional(node, "PayloadInfo")
    return UserMessage(
        info=_message_info(node),
        sender=_party(_required(parties, "From")),
        receiver=_party(_required(parties, "To")),
        collaboration=_collaboration(_required(node, "CollaborationInfo")),
        properties=_properties(properties),
        parts=() if payloads is None else _each(payloads.findall(Ns.EBMS3("PartInfo")), _part_info),
    )


def _party(node: etree._Element) -> Party:
    ids = _each(node.findall(Ns.EBMS3("PartyId")), lambda one: PartyId(_value(one), one.get("type")))
    if not ids:
        raise Ebms3Error("ebms.missing", "a party has no eb:PartyId")
    return Party(ids, _text(node, "Role"))


def _collaboration(node: etree._Element) -> Collaboration:
    agreement, service = _optional(node, "AgreementRef"), _required(node, "Service")
    return Collaboration(
        service=_value(service),
        service_type=service.get("type"),
        action=_text(node, "Action"),
        conversation_id=_text(node, "ConversationId"),
        agreement=None
        if agreement is None
        else Agreement(_value(agreement), agreement.get("type"), agreement.get("pmode")),
    )


def _part_info(node: etree._Element) -> PartInfo:
    return PartInfo(node.get("href"), _properties(_optional(node, "PartProperties")))


def _properties(node: etree._Element | None) -> tuple[Property, ...]:
    if node is None:
        return ()
    read = _each(
        node.findall(Ns.EBMS3("Property")), lambda one: Property(one.get("name", ""), _value(one), one.get("type"))
    )
    if len({one.name for one in read}) != len(read):
        raise Ebms3Error("ebms.twice", "two properties have one name")
    return read


def _receipt_references(receipt: etree._Element) -> tuple[SignedReference, ...]:
    path = "/".join(
        (Ns.EBBP_SIGNALS("NonRepudiationInformation"), Ns.EBBP_SIGNALS("MessagePartNRInformation"), Ns.DS("Reference"))
    )
    return _each(receipt.findall(path), _signed_reference)


def _signed_reference(node: etree._Element) -> SignedReference:
    method, value = node.find(Ns.DS("DigestMethod")), node.find(Ns.DS("DigestValue"))
    if method is None or value is None:
        raise Ebms3Error("ebms.missing", "a reference in the receipt lacks its digest")
    try:
        digest = base64.b64decode("".join(_value(value).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Ebms3Error("ebms.value", "a digest in the receipt is not base64") from error
    transforms = tuple(one.get("Algorithm", "") for one in node.findall(f"{Ns.DS('Transforms')}/{Ns.DS('Transform')}"))
    return SignedReference(node.get("URI", ""), method.get("Algorithm", ""), digest, transforms)


def _error(node: etree._Element) -> EbmsError:
    code = node.get("errorCode", "").strip()
    if not code:
        raise Ebms3Error("ebms.missing", "an eb:Error has no errorCode")
    severity = node.get("severity", "").strip().lower()
    description, detail = (_all_text(node.find(Ns.EBMS3(name))) for name in ("Description", "ErrorDetail"))
    said = " ".join(text for text in (description, detail, node.get("shortDescription")) if text)
    return EbmsError(
        code=code,
        # Anything but a warning stops the message (6.2.5).
        severity=ErrorSeverity.WARNING if severity == ErrorSeverity.WARNING else ErrorSeverity.FAILURE,
        category=node.get("category"),
        origin=node.get("origin"),
        short_description=node.get("shortDescription"),
        ref_to_message_in_error=node.get("refToMessageInError"),
        description=description,
        detail=detail,
        nested_codes=tuple(dict.fromkeys(_NESTED_CODE.findall(said))),
    )


def _all_text(node: etree._Element | None) -> str | None:
    """All text below: agencies put elements of their own into a detail."""
    return None if node is None else " ".join(" ".join(map(str, node.itertext("*"))).split())


def _each(nodes: list[etree._Element], read: Callable[[etree._Element], _Read]) -> tuple[_Read, ...]:
    if len(nodes) > UNIT_LIMIT:
        raise Ebms3Error("ebms.too-many", f"more than {UNIT_LIMIT} of one kind in the message")
    return tuple(map(read, nodes))


def _optional(parent: etree._Element, name: str) -> etree._Element | None:
    found = parent.findall(Ns.EBMS3(name))
    if len(found) > 1:
        raise Ebms3Error("ebms.twice", f"eb:{name} stands twice")
    return found[0] if found else None


def _required(parent: etree._Element, name: str) -> etree._Element:
    found = _optional(parent, name)
    if found is None:
        raise Ebms3Error("ebms.missing", f"eb:{name} is missing")
    return found


def _text(parent: etree._Element, name: str) -> str:
    value = _value(_required(parent, name))
    if not value:
        raise Ebms3Error("ebms.missing", f"eb:{name} is empty")
    return value


def _optional_text(parent: etree._Element, name: str) -> str | None:
    node = _optional(parent, name)
    return None if node is None else _value(node)


def _value(node: etree._Element) -> str:
    try:
        return text_of(node)
    except XmlError as error:
        raise Ebms3Error("ebms.value", f"eb:{etree.QName(node).localname} must hold text only") from error
