"""What every agency interface answers, so that stages know none of them: bytes and values in and out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pipeline.lodgment.decisions import RetryPolicy
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.job import LodgmentJob
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.outcome import Outcome
from pipeline.lodgment.references import TokenKey
from pipeline.protocol.credential import Credential
from pipeline.protocol.gzip_stream import Measure, Meter
from pipeline.protocol.wstrust import SecurityToken


class Document(Protocol):
    """The producer's document, to be read once: whole, or in pieces where it may be too large for that."""

    def read(self) -> bytes: ...

    def pieces(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document as it is stored, sealed and sent, and what its channel has to know of it later."""

    content: bytes = field(repr=False)
    facts: Mapping[str, str] = field(default_factory=dict)
    """The channel's own notes of job and document, kept with the lodgment; no personal data."""
    order_key: str | None = None
    """The lane that the agency's rules put this document in, whatever the job says."""
    payees: Mapping[str, str] = field(default_factory=dict, repr=False)
    """For each record that the agency may answer about: its id in the document, and the producer's number for whom
    it is about."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a reply must answer."""

    lodgment: Lodgment
    head: bytes = field(default=b"", repr=False)
    """What stands before the payload in the envelope that was sent; empty unless the channel `checks_receipts`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer."""

    status: int
    content_type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealOrder:
    """What goes into one envelope. `payload` is as `prepare` returned it, and empty in a message that only `asks`;
    `nonce` makes element ids unique.

    A large payload that the channel `attaches` stays where it is: `payload` is empty then, and `attached` its measure.
    """

    lodgment: Lodgment
    payload: bytes = field(repr=False)
    credential: Credential | None
    token: SecurityToken | None
    now: datetime
    nonce: str
    attached: Measure | None = None

    def payload_measure(self) -> Measure:
        """Size and digest of the payload, be it at hand or not."""
        return self.attached or Meter.of(self.payload)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is secured around a payload: the bytes on the wire are `head + payload + tail`."""

    head: bytes = field(repr=False)
    tail: bytes = field(repr=False)

    def measure(self, payload: bytes) -> Measure:
        """Of the bytes on the wire: a pass over all of them, which only who stores or shows it has to pay."""
        return Meter.of(self.head, payload, self.tail)


class TokenSubject(Protocol):
    """What a token depends on besides the environment: a lodgment is one, and so is an employer to ask ahead for."""

    @property
    def credential(self) -> str: ...

    @property
    def party_abn(self) -> str: ...

    @property
    def software_id(self) -> str | None: ...


class Channel(Protocol):
    """One agency interface in one environment."""

    @property
    def name(self) -> str:
        """As jobs name it, for example `asic_bn`."""
        ...

    @property
    def checks_receipts(self) -> bool:
        """Whether replies are compared with the envelope that they answer."""
        ...

    @property
    def attaches(self) -> bool:
        """Whether the payload goes beside what is signed, so that its size and digest are enough to seal it."""
        ...

    @property
    def needs_software_id(self) -> bool:
        """Whether each lodgment carries the software id of its employer or agent; it is looked up at receive."""
        ...

    def prepare(self, job: LodgmentJob, document: Document, now: datetime) -> Prepared:
        """The document in the form in which it is stored and sealed: checked, and canonical where it is XML.

        Raises:
            JobRefusedError: unknown service or action, not well formed, wrong root, too large; names rule and fix.
        """
        ...

    def asks(self, lodgment: Lodgment) -> bool:
        """Whether what is to be sent next asks for the outcome of what the agency has, without the document."""
        ...

    def token_key(self, subject: TokenSubject) -> TokenKey | None:
        """The security token that this lodgment needs, or None where the channel uses none."""
        ...

    def seal(self, order: SealOrder) -> Envelope:
        """The secured envelope, to the byte."""
        ...

    def gateway(self) -> str | None:
        """Which of several doors of the agency new lodgments go through; what went in by one is asked for there."""
        ...

    def url(self, lodgment: Lodgment) -> str:
        """Where it is sent."""
        ...

    def headers(self, lodgment: Lodgment) -> tuple[tuple[str, str], ...]:
        """HTTP headers of the submission, content type first."""
        ...

    def read_reply(self, reply: Reply, sent: Sent) -> Outcome | Failure:
        """The reply, read leniently and believed only as far as it may be; never raises for what was sent."""
        ...

    def policy(self, service: str, action: str) -> RetryPolicy:
        """How failures of this service are retried."""
        ...
