"""A security token as a row, both ways; the assertion and its proof key are sealed, each for its own row and column."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from sqlalchemy.engine import Row

from pipeline.ledger.tables import TokenState, security_token
from pipeline.ledger.vault import Vault
from pipeline.lodgment.breaker import CLOCK_TOLERANCE
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Reason
from pipeline.lodgment.references import TokenKey, TokenKeyHash
from pipeline.protocol.wstrust import SecurityToken

SECRET_COLUMNS = ("assertion", "proof_key")
PUBLIC = tuple(column for column in security_token.c if column.name not in SECRET_COLUMNS)


class Turn(IntEnum):
    """Why a token is asked for; of what is due, the lower turn goes first."""

    FIRST = 1
    """Lodgments wait for it."""
    RENEWAL = 2
    """The token at hand is good and in demand, and ages."""
    WARM = 3
    """Lodgments will need it at a time to come."""


@dataclass(frozen=True, slots=True)
class StoredToken:
    """What the ledger knows of one token key.

    `token` stays beside a running lease or a failed renewal, and is None where secrets were not read: whether there is
    a good one is for `usable` to say. `failed`, `failures` in a row and `retry_at` are of the latest request, None and
    0 after a success. `ask_at` is when the token worker asks next, None when it has no reason to.
    """

    key_hash: TokenKeyHash
    key: TokenKey
    state: TokenState
    token: SecurityToken | None
    expires_at: datetime | None
    lease_owner: str | None
    lease_until: datetime | None
    failed: Reason | None
    retry_at: datetime | None
    requested_at: datetime
    renewals: int
    last_used_at: datetime
    wanted_until: datetime | None = None
    ask_at: datetime | None = None
    failures: int = 0

    def usable(self, now: datetime, margin: timedelta) -> bool:
        """Whether there is a token that outlives `margin`.

        A clock that reads earlier than when this row was last looked at has stepped back: by it an expired token would
        seem fresh again, so none of it is believed (the row is then asked for anew).
        """
        noted_until = now + CLOCK_TOLERANCE
        if self.last_used_at > noted_until or self.requested_at > noted_until:
            return False
        return self.expires_at is not None and self.expires_at > now + margin


def seal_secrets(vault: Vault, key_hash: TokenKeyHash, token: SecurityToken) -> dict[str, bytes]:
    """The values of `SECRET_COLUMNS`."""
    return {
        "assertion": vault.seal(token.assertion, _context(key_hash, "assertion")),
        "proof_key": vault.seal(token.proof_key, _context(key_hash, "proof_key")),
    }


def token_of(vault: Vault, row: Row[Any]) -> SecurityToken | None:
    """The token in a whole row, if there is one.

    Raises:
        RefusedError: `vault.damaged`.
    """
    if row.assertion is None:
        return None
    key_hash = TokenKeyHash(row.key_hash)
    return SecurityToken(
        assertion=vault.open(row.assertion, _context(key_hash, "assertion")),
        proof_key=vault.open(row.proof_key, _context(key_hash, "proof_key")),
        assertion_id=row.assertion_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def key_columns(key_hash: TokenKeyHash, key: TokenKey) -> dict[str, object]:
    """The columns that never change."""
    return {
        "key_hash": key_hash,
        "environment": key.environment,
        "sts": key.sts,
        "applies_to": key.applies_to,
        "credential": key.credential,
        "second_party": key.second_party,
        "software_id": key.software_id,
        "claims": key.claims,
        "key_size": key.key_size,
        "saml_version": key.saml_version,
    }


def stored_token(row: Row[Any], token: SecurityToken | None) -> StoredToken:
    """A row of at least `PUBLIC`, with its token where the caller may have it."""
    key = TokenKey(
        environment=row.environment,
        sts=row.sts,
        applies_to=row.applies_to,
        credential=row.credential,
        second_party=row.second_party,
        software_id=row.software_id,
        claims=tuple(row.claims),
        key_size=row.key_size,
        saml_version=row.saml_version,
    )
    return StoredToken(
        key_hash=TokenKeyHash(row.key_hash),
        key=key,
        state=TokenState(row.state),
        token=token,
        expires_at=row.expires_at,
        lease_owner=row.lease_owner,
        lease_until=row.lease_until,
        failed=Reason(row.failed_code, row.failed_text, Party(row.failed_who)) if row.failed_code else None,
        retry_at=row.retry_at,
        requested_at=row.requested_at,
        renewals=row.renewals,
        last_used_at=row.last_used_at,
        wanted_until=row.wanted_until,
        ask_at=row.ask_at,
        failures=row.failures or 0,
    )


def _context(key_hash: TokenKeyHash, column: str) -> bytes:
    return f"token {column} {key_hash}".encode()
