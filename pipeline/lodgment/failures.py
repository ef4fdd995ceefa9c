"""Why an attempt did not end in an outcome: a closed set of classes, each with who must act and how far it reaches."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class FailureClass(StrEnum):
    """What a failure means for the lodgment; the decision table has one row for each."""

    NOT_SENT = "not_sent"
    """Nothing left this machine: connection refused, TLS handshake, name not resolved."""
    UNKNOWN = "unknown"
    """Bytes may have left and the answer did not arrive whole."""
    UNAVAILABLE = "unavailable"
    """The agency, or its token service, says that it cannot take anything now."""
    STALE_TOKEN = "stale_token"  # noqa: S105  - a class of failure, not a secret
    """The security token was refused; the payload and the reference stay good."""
    DUPLICATE = "duplicate"
    """The agency has it already: it was lodged."""
    OUR_DOCUMENT = "our_document"
    """What we built or were given cannot be read by the agency."""
    THEIR_PERMISSION = "their_permission"
    """The employer, agent or provider lacks a permission at the agency."""
    OUR_CREDENTIAL = "our_credential"
    """The machine credential, or its registration, is not accepted."""


class Party(StrEnum):
    """Who must act."""

    NOBODY = "nobody"
    EMPLOYER = "employer"
    AGENT = "agent"
    PRODUCER = "producer"
    """The payroll product, or whoever wrote the job and its payload."""
    OPERATOR = "operator"
    AGENCY = "agency"


class Blast(StrEnum):
    """How far the cause reaches: what else will fail for the same reason."""

    LODGMENT = "lodgment"
    EMPLOYER = "employer"
    AGENT = "agent"
    CREDENTIAL = "credential"
    CHANNEL = "channel"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure, classified once, in the channel or the gateway.

    `code` is what the other side said, or our own (`transport.connect`, ...), and what an operator searches for.
    `detail` is their text, untrusted and cut to 1,000 characters. `advice` is ours: what it means and what to do.
    """

    kind: FailureClass
    code: str
    detail: str
    advice: str
    who: Party
    blast: Blast = Blast.LODGMENT
    available_after: datetime | None = None
    known: bool = True
    """Whether the code stands in a fault table; False: the class is our guess from whose side the fault blames."""
