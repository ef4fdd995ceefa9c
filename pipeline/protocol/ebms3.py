"""ebMS 3.0 values: what a user message, a pull request, a receipt and an error say (OASIS ebMS 3.0 core, 5.2)."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pipeline.protocol.namespaces import Ns

PING_SERVICE = f"{Ns.EBMS3}service"
PING_ACTION = f"{Ns.EBMS3}test"
"""A message for this service and action is answered and not delivered (ebMS 3.0 core, 5.2.2.8, 5.2.2.9)."""
EMPTY_PARTITION = "EBMS:0006"
"""Nothing is there to be pulled, yet (ebMS 3.0 core, 6.7.1, EmptyMessagePartitionChannel)."""


class Ebms3Error(ValueError):
    """A message that does not say what ebMS 3.0 has it say. `code` says which rule it breaks."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class PartyId:
    value: str
    type: str | None = None
    """The URI of the register that the value is from; without it the value is a URI itself (5.2.2.4)."""


@dataclass(frozen=True, slots=True)
class Party:
    """A sender or receiver: ids, one or more, and the URI of a role."""

    ids: tuple[PartyId, ...]
    role: str


@dataclass(frozen=True, slots=True)
class Agreement:
    reference: str
    type: str | None = None
    pmode: str | None = None


@dataclass(frozen=True, slots=True)
class Collaboration:
    """What is asked of the receiver, and in which conversation (5.2.2.6)."""

    service: str
    action: str
    conversation_id: str
    service_type: str | None = None
    agreement: Agreement | None = None


@dataclass(frozen=True, slots=True)
class Property:
    """Of a message or of one of its parts, for example `SoftwareSubscriptionId`, or `CompressionType`."""

    name: str
    value: str
    type: str | None = None


@dataclass(frozen=True, slots=True)
class PartInfo:
    """A payload: where it is (`cid:` for an attachment; None is the SOAP body), and what it is (5.2.2.13)."""

    href: str | None
    properties: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageInfo:
    message_id: str
    """`<unique>@<domain>`, without brackets (5.2.2.1)."""
    timestamp: datetime
    ref_to_message_id: str | None = None


@dataclass(frozen=True, slots=True)
class UserMessage:
    info: MessageInfo
    sender: Party
    receiver: Party
    collaboration: Collaboration
    properties: tuple[Property, ...] = ()
    parts: tuple[PartInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class PullRequest:
    """Asks for a message: any of a channel (`mpc`), or, in SBR, the one that answers `selected` (SBR ebMS3 WIG)."""

    info: MessageInfo
    selected: str | None = None
    """The MessageId of the push whose answer is wanted."""
    mpc: str | None = None


@dataclass(frozen=True, slots=True)
class SignedReference:
    """One ds:Reference, as a signature holds it and as a receipt repeats it."""

    uri: str
    digest_method: str
    digest: bytes
    transforms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """The message arrived. `references` are those it had, as its receiver says; none where it does not (AS4, 5.1.8)."""

    info: MessageInfo
    references: tuple[SignedReference, ...] = ()


class ErrorSeverity(StrEnum):
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class EbmsError:
    """One eb:Error (6.2). Unsigned as a rule: a claim, and text that others wrote."""

    code: str
    severity: ErrorSeverity
    category: str | None = None
    origin: str | None = None
    short_description: str | None = None
    ref_to_message_in_error: str | None = None
    description: str | None = None
    detail: str | None = None
    nested_codes: tuple[str, ...] = ()
    """Codes of the agency inside description and detail, as `CMN.ATO.GEN.DuplicateTransmission`, in order."""

    @property
    def nothing_yet(self) -> bool:
        """There is no message to pull: no failure, and what a pull gets while the agency is closed as well."""
        return self.code.upper() == EMPTY_PARTITION


@dataclass(frozen=True, slots=True)
class ErrorSignal:
    """A signal message that reports one or more errors."""

    info: MessageInfo
    errors: tuple[EbmsError, ...]

    @property
    def nothing_yet(self) -> bool:
        """Nothing else is reported than that there is no message to pull."""
        return all(error.nothing_yet for error in self.errors)


Signal = PullRequest | Receipt | ErrorSignal
Unit = UserMessage | Signal
"""What stands in eb:Messaging."""
