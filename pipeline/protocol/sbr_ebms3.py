"""How SBR fills in ebMS 3.0: parties, properties and the three messages that a lodging party sends (SBR ebMS3 WIG).

The guides with the exact values are for registered developers. What stands here was read off working clients and not
proved: every value is a setting of the profile, and these are only its defaults.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pipeline.protocol.ebms3 import (
    PING_ACTION,
    PING_SERVICE,
    Agreement,
    Collaboration,
    Ebms3Error,
    MessageInfo,
    PartInfo,
    Party,
    PartyId,
    Property,
    PullRequest,
    UserMessage,
)
from pipeline.protocol.gzip_stream import MEDIA_TYPE
from pipeline.protocol.mime_writer import cid_url

_ABN_TYPE = "http://abr.gov.au/PartyIdType/ABN"
_ATO = Party((PartyId("51824753556", _ABN_TYPE),), "http://sbr.gov.au/agency")


class PartyKind(StrEnum):
    """Which register a lodging party is known by."""

    ABN = "abn"
    WPN = "wpn"
    """Withholding payer number: a payer without an ABN."""
    TAN = "tan"
    """Registered agent number (RAN)."""


@dataclass(frozen=True, slots=True)
class Software:
    """The product as it is registered with the agency; a name or version that differs is refused there."""

    product_id: str
    vendor: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Document:
    """The one attachment of a push: a gzip whose media type is that of the document inside."""

    content_id: str
    name: str
    """`DocumentName`, for example `PAYEVNT`."""
    part_id: str
    media_type: str = "text/xml"
    extra: tuple[Property, ...] = ()
    """Further part properties, such as a file name."""


@dataclass(frozen=True, slots=True)
class Push:
    """What is lodged: by whom, under which service and action, and for which software subscription."""

    message_id: str
    sender: Party
    service: str
    action: str
    conversation_id: str
    document: Document
    software: Software
    software_id: str | None
    """The SSID: ten digits, written as `SoftwareSubscriptionId`; None leaves it out."""


@dataclass(frozen=True, slots=True)
class SbrProfile:
    """Names and URIs of one environment's messages."""

    party_types: tuple[tuple[PartyKind, str], ...] = (
        (PartyKind.ABN, _ABN_TYPE),
        (PartyKind.WPN, "http://ato.gov.au/PartyIdType/WPN"),
        (PartyKind.TAN, "http://ato.gov.au/PartyIdType/TAN"),
    )
    business_role: str = "http://sbr.gov.au/ato/Role/Business"
    agent_role: str = "http://sbr.gov.au/ato/Role/Registered Agent"
    agency: Party = _ATO
    agreement: Agreement | None = None
    product_id_name: str = "ProductID"
    vendor_name: str = "BMS Vendor"
    software_name: str = "BMS Name"
    version_name: str = "BMS Version"
    software_id_name: str = "SoftwareSubscriptionId"
    part_id_name: str = "PartID"
    media_type_name: str = "MimeType"
    compression_name: str = "CompressionType"
    compression: str = MEDIA_TYPE
    document_name: str = "DocumentName"
    document_type_name: str = "DocumentType"
    document_type: str = "BASE"
    further_properties: tuple[Property, ...] = ()
    """Of every user message, such as `MSHIdentity`."""

    def party(self, kind: PartyKind, number: str) -> Party:
        """A lodging party. An agent has a role of its own; it is named by its number, its clients are in the document.

        Raises:
            Ebms3Error: `ebms.party`: the number is empty, or the profile has no type for that kind.
        """
        known = dict(self.party_types)
        if not number or kind not in known:
            raise Ebms3Error("ebms.party", f"a {kind.value.upper()} with a party id type in the profile is needed")
        role = self.agent_role if kind is PartyKind.TAN else self.business_role
        return Party((PartyId(number, known[kind]),), role)

    def push(self, order: Push, now: datetime) -> UserMessage:
        """The user message that lodges one document.

        Raises:
            Ebms3Error: `ebms.property`: one that must be there is empty.
        """
        return UserMessage(
            info=MessageInfo(order.message_id, now),
            sender=order.sender,
            receiver=self.agency,
            collaboration=Collaboration(order.service, order.action, order.conversation_id, agreement=self.agreement),
            properties=self._message_properties(order.software, order.software_id),
            parts=(self._part(order.document),),
        )

    def pull(self, message_id: str, pushed: str, now: datetime) -> PullRequest:
        """Asks for the answer to the message that was pushed under the MessageId `pushed`; no partition is named."""
        return PullRequest(MessageInfo(message_id, now), selected=pushed)

    def ping(
        self, message_id: str, conversation_id: str, sender: Party, software: Software, now: datetime
    ) -> UserMessage:
        """Answered with a receipt and delivered to nobody (ebMS 3.0 core, 5.2.2.8)."""
        return UserMessage(
            info=MessageInfo(message_id, now),
            sender=sender,
            receiver=self.agency,
            collaboration=Collaboration(PING_SERVICE, PING_ACTION, conversation_id),
            properties=self._message_properties(software, None),
        )

    def _message_properties(self, software: Software, software_id: str | None) -> tuple[Property, ...]:
        named = [
            Property(self.product_id_name, software.product_id),
            Property(self.vendor_name, software.vendor),
            Property(self.software_name, software.name),
            Property(self.version_name, software.version),
        ]
        if software_id is not None:
            named.append(Property(self.software_id_name, software_id))
        return _filled((*named, *self.further_properties))

    def _part(self, document: Document) -> PartInfo:
        named = (
            Property(self.part_id_name, document.part_id),
            Property(self.media_type_name, document.media_type),
            Property(self.compression_name, self.compression),
            Property(self.document_name, document.name),
            Property(self.document_type_name, self.document_type),
        )
        return PartInfo(cid_url(document.content_id), _filled((*named, *document.extra)))


def _filled(properties: tuple[Property, ...]) -> tuple[Property, ...]:
    empty = next((one.name for one in properties if not one.value.strip()), None)
    if empty is not None:
        raise Ebms3Error("ebms.property", f"the property {empty} is empty: give it a value")
    return properties
