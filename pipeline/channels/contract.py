"""What every agency interface answers, so that stages know none of them: bytes and values in and out."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pipeline.lodgment.decisions import RetryPolicy
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.outcome import Outcome
from pipeline.lodgment.references import TokenKey
from pipeline.protocol.credential import Credential
from pipeline.protocol.wstrust import SecurityToken


@dataclass(frozen=True, slots=True)
class SealOrder:
    """What goes into one envelope. `payload` is as `prepare` returned it; `nonce` makes element ids unique."""

    lodgment: Lodgment
    payload: bytes = field(repr=False)
    credential: Credential | None
    token: SecurityToken | None
    now: datetime
    nonce: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """A secured envelope around its payload: the bytes on the wire are `head + payload + tail`."""

    head: bytes = field(repr=False)
    tail: bytes = field(repr=False)
    sha256: str
    """Of the bytes on the wire, in hex."""
    size: int


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

    def prepare(self, service: str, action: str, payload: bytes) -> bytes:
        """The payload in the form in which it is stored and sealed: checked, and canonical where it is XML.

        Raises:
            JobRefusedError: unknown service or action, not well formed, wrong root, too large; names rule and fix.
        """
        ...

    def token_key(self, subject: TokenSubject) -> TokenKey | None:
        """The security token that this lodgment needs, or None where the channel uses none."""
        ...

    def seal(self, order: SealOrder) -> Envelope:
        """The secured envelope, to the byte."""
        ...

    def url(self, lodgment: Lodgment) -> str:
        """Where it is sent."""
        ...

    def headers(self, lodgment: Lodgment) -> tuple[tuple[str, str], ...]:
        """HTTP headers of the submission, content type first."""
        ...

    def read_reply(self, status: int, content_type: str, body: bytes, reference: str) -> Outcome | Failure:
        """The reply, read leniently and believed only as far as it may be; never raises for what was sent."""
        ...

    def policy(self, service: str, action: str) -> RetryPolicy:
        """How failures of this service are retried."""
        ...
