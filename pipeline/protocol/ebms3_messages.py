"""ebMS 3.0 messages written as SOAP headers, in canonical form (OASIS ebMS 3.0 core, 5.2; AS4 profile 1.0)."""

import base64
from collections.abc import Mapping

from pipeline.protocol.ebms3 import (
    Ebms3Error,
    EbmsError,
    ErrorSignal,
    MessageInfo,
    PartInfo,
    Party,
    Property,
    PullRequest,
    Receipt,
    SignedReference,
    Unit,
    UserMessage,
)
from pipeline.protocol.fragments import element
from pipeline.protocol.namespaces import Ns
from pipeline.protocol.timestamps import utc_text
from pipeline.protocol.wsse import Part
from pipeline.protocol.xml import escape_attribute, escape_text

_NONE: Mapping[str, str] = {}
_XML_LANGUAGE: Mapping[str, str] = {"xml:lang": "en"}


def messaging(unit: Unit, element_id: str, must_understand: str = "true") -> tuple[bytes, Part]:
    """The `eb:Messaging` header block around one message, and what a signature covers of it.

    Raises:
        Ebms3Error: `ebms.property` twice under one name, `ebms.party` without an id, `ebms.error` with no error in it.
        XmlError: `xml.character` in a value.
    """
    # Attributes sort by the URI of their namespace (XML-C14N 1.0, 2.3): wsu is before soap.
    start = (
        f'<eb:Messaging xmlns:eb="{Ns.EBMS3}" xmlns:soap="{Ns.SOAP}" xmlns:wsu="{Ns.WSU}"'
        f' wsu:Id="{escape_attribute(element_id)}" soap:mustUnderstand="{escape_attribute(must_understand)}">'
    )
    header = f"{start}{_unit(unit)}</eb:Messaging>".encode()
    return header, Part.of(element_id, header)


def _unit(unit: Unit) -> str:
    match unit:
        case UserMessage():
            return _user_message(unit)
        case PullRequest():
            content = _pull_request(unit)
        case Receipt():
            content = _receipt(unit)
        case ErrorSignal():
            if not unit.errors:
                raise Ebms3Error("ebms.error", "an error signal must report at least one error")
            content = "".join(map(_error, unit.errors))
    return element("eb:SignalMessage", _message_info(unit.info) + content)


def _user_message(message: UserMessage) -> str:
    together = message.collaboration
    agreement = ""
    if together.agreement is not None:
        named = _given(pmode=together.agreement.pmode, type=together.agreement.type)
        agreement = _text("AgreementRef", together.agreement.reference, named)
    return element(
        "eb:UserMessage",
        _message_info(message.info)
        + element("eb:PartyInfo", _party("From", message.sender) + _party("To", message.receiver))
        + element(
            "eb:CollaborationInfo",
            agreement
            + _text("Service", together.service, _given(type=together.service_type))
            + _text("Action", together.action)
            + _text("ConversationId", together.conversation_id),
        )
        + _properties("MessageProperties", message.properties)
        + (element("eb:PayloadInfo", "".join(map(_part_info, message.parts))) if message.parts else ""),
    )


def _message_info(info: MessageInfo) -> str:
    refers = "" if info.ref_to_message_id is None else _text("RefToMessageId", info.ref_to_message_id)
    return element(
        "eb:MessageInfo", _text("Timestamp", utc_text(info.timestamp)) + _text("MessageId", info.message_id) + refers
    )


def _party(name: str, party: Party) -> str:
    if not party.ids:
        raise Ebms3Error("ebms.party", f"{name} must have at least one party id (ebMS 3.0 core, 5.2.2.4)")
    ids = "".join(_text("PartyId", one.value, _given(type=one.type)) for one in party.ids)
    return element(f"eb:{name}", ids + _text("Role", party.role))


def _properties(name: str, properties: tuple[Property, ...]) -> str:
    if not properties:
        return ""
    names = [one.name for one in properties]
    twice = next((one for one in names if names.count(one) > 1), None)
    if twice is not None:
        raise Ebms3Error("ebms.property", f"{name} has {twice} twice: a property has one value")
    content = "".join(_text("Property", one.value, _given(name=one.name, type=one.type)) for one in properties)
    return element(f"eb:{name}", content)


def _part_info(part: PartInfo) -> str:
    return element("eb:PartInfo", _properties("PartProperties", part.properties), attributes=_given(href=part.href))


def _pull_request(request: PullRequest) -> str:
    selected = "" if request.selected is None else _text("RefToMessageId", request.selected)
    return element("eb:PullRequest", selected, attributes=_given(mpc=request.mpc))


def _receipt(receipt: Receipt) -> str:
    """With the references of the message as they were (ebBP signals 2.0; AS4 profile 1.0, 5.1.8)."""
    parts = "".join(
        element("ebbp:MessagePartNRInformation", signed_reference(reference)) for reference in receipt.references
    )
    information = element("ebbp:NonRepudiationInformation", parts, declared={"ebbp": Ns.EBBP_SIGNALS}) if parts else ""
    return element("eb:Receipt", information)


def signed_reference(reference: SignedReference) -> str:
    """A ds:Reference that declares its own namespace."""
    transforms = "".join(element("ds:Transform", attributes={"Algorithm": one}) for one in reference.transforms)
    return element(
        "ds:Reference",
        (element("ds:Transforms", transforms) if transforms else "")
        + element("ds:DigestMethod", attributes={"Algorithm": reference.digest_method})
        + element("ds:DigestValue", base64.b64encode(reference.digest).decode()),
        declared={"ds": Ns.DS},
        attributes={"URI": reference.uri},
    )


def _error(error: EbmsError) -> str:
    description = "" if error.description is None else _text("Description", error.description, _XML_LANGUAGE)
    detail = "" if error.detail is None else _text("ErrorDetail", error.detail)
    return element(
        "eb:Error",
        description + detail,
        attributes=_given(
            category=error.category,
            errorCode=error.code,
            origin=error.origin,
            refToMessageInError=error.ref_to_message_in_error,
            severity=error.severity,
            shortDescription=error.short_description,
        ),
    )


def _text(name: str, value: str, attributes: Mapping[str, str] = _NONE) -> str:
    return element(f"eb:{name}", escape_text(value), attributes=attributes)


def _given(**attributes: str | None) -> dict[str, str]:
    return {name: value for name, value in attributes.items() if value is not None}
