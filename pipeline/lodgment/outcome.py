"""What the agency said of one lodgment, in one shape for every channel."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    INFORMATION = "Information"
    WARNING = "Warning"
    ERROR = "Error"


class Result(StrEnum):
    """The agency's verdict (WIG 3.3.1.9, and partial acceptance as SBR2 has it)."""

    ACCEPTED = "accepted"
    PARTIALLY_ACCEPTED = "partially_accepted"
    REJECTED = "rejected"
    DELAYED = "delayed"
    """Not fully processed yet; never a success."""
    FAULT = "fault"
    """The agency's own systems behind the gateway may be down."""


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """One business-rule event. `code` stays text because its zero-padding varies; `location` is an XPath.

    `payee` is the producer's number for whom the event is about, where the document has records of several.
    """

    code: str
    severity: Severity
    description: str
    location: str | None = None
    details: tuple[str, ...] = ()
    payee: str | None = None
    record: str | None = None
    """The id, in the document, of the record that the event is about."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """Metadata of a document that the agency made available; the document itself is not fetched."""

    document_type: str | None = None
    name: str | None = None
    description: str | None = None
    url: str | None = None
    document_number: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A reply, read. `reference` is the message reference number that the agency returned: the reader checks it."""

    result: Result
    reference: str
    agency_reference: str | None = None
    document_number: str | None = None
    events: tuple[MessageEvent, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    agency_time: str | None = None
