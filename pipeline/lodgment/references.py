"""References: time-ordered ids, message reference numbers, token keys."""

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import NewType
from uuid import UUID

MessageReferenceNumber = NewType("MessageReferenceNumber", str)
"""Allocated once per lodgment, before anything is sent, and used by every attempt: at most 50 characters."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

TokenKeyHash = NewType("TokenKeyHash", str)
"""64 hex digits that stand for a `TokenKey` in tables and messages."""


def uuid7(now: datetime, entropy: bytes) -> UUID:
    """A time-ordered id (RFC 9562, 5.7): 48 bits of milliseconds, then 74 of the 80 bits in `entropy` (10 bytes)."""
    milliseconds = _milliseconds(now)
    tail = int.from_bytes(entropy[:10], "big")
    value = milliseconds << 80 | tail
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def _milliseconds(moment: datetime) -> int:
    """Since 1970, exactly: by way of a float, two moments a millisecond apart can become one."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


class Ids:
    """Makes ids that always increase, also within one millisecond: lanes are kept in the order of ids."""

    def __init__(self) -> None:
        self._last = 0

    def new(self, now: datetime, entropy: bytes) -> UUID:
        """A fresh id; `entropy` as in `uuid7`. When the clock stands still or steps back, the last id's successor."""
        made = uuid7(now, entropy)
        if made.int <= self._last:
            # The low 62 bits are random: adding a few billion stays unguessable enough and cannot reach the time.
            made = UUID(int=self._last + 1 + int.from_bytes(entropy[:4], "big"))
        self._last = made.int
        return made


def earliest_id(moment: datetime) -> UUID:
    """The smallest id that could have been made at `moment`: a bound for range scans and monthly partitions."""
    return UUID(int=_milliseconds(moment) << 80)


def message_reference_number(ledger: UUID, environment: str, sender_id: str, job_id: str) -> MessageReferenceNumber:
    """What a job is lodged under: always the same for one job of one ledger, so that a job which a restored ledger has
    forgotten is lodged again under the reference that the agency knows (decision 26).

    A UUID of version 8 (RFC 9562, 5.8) as text: 36 characters, which ASIC takes (1-50) and which makes an SBR2
    MessageId with a domain behind it. `ledger` is the ledger's identity; its copies have the same.
    """
    job = json.dumps([environment, sender_id, job_id], separators=(",", ":"), ensure_ascii=True)
    value = int.from_bytes(hmac.digest(ledger.bytes, job.encode(), "sha256")[:16], "big")
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return MessageReferenceNumber(str(UUID(int=value)))


SAML_2_0 = "2.0"


@dataclass(frozen=True, slots=True)
class TokenKey:
    """Everything that makes two security tokens interchangeable; leave one out and a token reaches another employer."""

    environment: str
    sts: str
    applies_to: str
    credential: str
    second_party: str | None
    software_id: str | None
    claims: tuple[str, ...]
    key_size: int
    saml_version: str = SAML_2_0

    def hash(self) -> TokenKeyHash:
        fields = asdict(self)
        if self.saml_version == SAML_2_0:
            # Keys were hashed before there was this field, and lodgments may wait for them.
            del fields["saml_version"]
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return TokenKeyHash(hashlib.sha256(canonical.encode()).hexdigest())
