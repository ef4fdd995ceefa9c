"""WS-Trust 1.3 as MAS-ST speaks it: what is asked for, and what comes back.

`wstrust_request` writes the request (RST), `wstrust_reply` reads the response (RSTR).
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from pipeline.protocol.algorithms import TokenProfile
from pipeline.protocol.namespaces import Ns

SYMMETRIC_KEY = f"{Ns.WST}/SymmetricKey"

SHORTEST_LIFETIME = timedelta(minutes=5)
LONGEST_LIFETIME = timedelta(hours=8)
CONTEXT_LIMIT = 512
KEY_BYTES = range(16, 129)
"""Sizes of a proof key that are believed, and of what both sides contribute to one."""
_SAFE_CONTEXT = re.compile(r"[A-Za-z0-9._~:/?#@!$'()*+,;=%-]+")
_ABSOLUTE_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_ABN = re.compile(r"[0-9]{11}")
_SOFTWARE_ID = re.compile(r"[0-9]{10}")
_NCNAME = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*")


class WsTrustError(ValueError):
    """A token request that may not be sent, or a response not to be believed. `code` says which rule it breaks."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class SecurityToken:
    """What the token service gave: an assertion that only the relying party can read, and a key that proves it ours.

    `assertion` is the EncryptedAssertion element, self-contained, unchanged. Of all times only `expires_at` counts.
    """

    assertion: bytes = field(repr=False)
    proof_key: bytes = field(repr=False)
    assertion_id: str
    """Empty when the response refers to its token by nothing."""
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement about the credential's holder that the relying party wants in the token."""

    uri: str
    optional: bool = False
    value: str | None = None
    """What the claim is expected to say; .NET clients write it when they act for another business."""


class RelationshipId(StrEnum):
    """Which attribute carries the relationship's id: working clients differ, and the service takes either."""

    QUALIFIED = "v13:ID"
    """.NET and PHP."""
    UNQUALIFIED = "ID"
    """Java, and the example of MAS-ST 3.3.1.1."""
    WSU = "wsu:Id"
    """The table of MAS-ST 3.3.1; no client is known to send it."""


@dataclass(frozen=True, slots=True)
class Relationship:
    """On whose behalf: `first_party` is the credential's own ABN, `second_party` the client's (MAS-ST 3.3.1)."""

    id: str
    first_party: str
    second_party: str
    software_id: str
    id_attribute: RelationshipId = RelationshipId.QUALIFIED

    def __post_init__(self) -> None:
        for name, abn in (("first party", self.first_party), ("second party", self.second_party)):
            _require(_ABN.fullmatch(abn), "wstrust.abn", f"the {name} of a relationship must be an ABN of 11 digits")
        _require(
            _SOFTWARE_ID.fullmatch(self.software_id),
            "wstrust.software-id",
            "a software id has exactly 10 digits, leading zeroes included",
        )
        _require(_NCNAME.fullmatch(self.id), "wstrust.relationship-id", "the id of a relationship must be an XML name")


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """What is asked for. `applies_to` names the relying party; no claims: the service's default set (MAS-ST 2.4)."""

    applies_to: str
    claims: tuple[Claim, ...] = ()
    lifetime: timedelta = timedelta(minutes=30)
    key_size: int | None = None
    """Bits; None leaves it to the service (256, MAS-ST 4.1.2.6)."""
    token_type: TokenProfile = TokenProfile.SAML20
    relationship: Relationship | None = None
    context: str | None = None
    """Comes back in the response."""
    entropy: bytes | None = field(default=None, repr=False)
    """Our part of a computed key (WS-Trust 1.3, 4.4.4), fresh in every attempt; None: the service makes the key."""

    def __post_init__(self) -> None:
        uris = (self.applies_to, *(claim.uri for claim in self.claims))
        for uri in uris:
            _require(_ABSOLUTE_URI.fullmatch(uri), "wstrust.uri", f"{uri[:200]!r} must be an absolute URI")
        _require(
            SHORTEST_LIFETIME < self.lifetime <= LONGEST_LIFETIME,
            "wstrust.lifetime",
            f"lifetime is {self.lifetime}: it must be more than {SHORTEST_LIFETIME} and at most {LONGEST_LIFETIME}"
            " (MAS-ST 4.1.2.10)",
        )
        _require(
            self.key_size is None or (128 <= self.key_size <= 1024 and self.key_size % 8 == 0),
            "wstrust.key-size",
            f"key size is {self.key_size}: it must be whole bytes between 128 and 1024 bits",
        )
        _require(
            self.context is None or (len(self.context) <= CONTEXT_LIMIT and _SAFE_CONTEXT.fullmatch(self.context)),
            "wstrust.context",
            f"context must have 1 to {CONTEXT_LIMIT} characters of the URI set (MAS-ST 4.1.2.1)",
        )
        _require(
            self.entropy is None or len(self.entropy) in KEY_BYTES,
            "wstrust.entropy",
            f"entropy must have {KEY_BYTES.start} to {KEY_BYTES.stop - 1} bytes",
        )


def _require(holds: object, code: str, text: str) -> None:
    if not holds:
        raise WsTrustError(code, text)
