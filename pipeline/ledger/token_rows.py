"""A security token as a row, both ways; the assertion and its proof key are sealed, each for its own row and column."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Row

from pipeline.ledger.tables import TokenState, security_token
from pipeline.ledger.vault import Vault
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Reason
from pipeline.lodgment.references import TokenKey, TokenKeyHash
from pipeline.protocol.wstrust import SecurityToken

SECRET_COLUMNS = ("assertion", "proof_key")
PUBLIC = tuple(column for column in security_token.c if column.name not in SECRET_COLUMNS)


@dataclass(frozen=True, slots=True)
class StoredToken:
    """What the ledger knows of one token key.

    `token` stays beside a running lease or a failed renewal: whether it is good is for its `expires_at` to say.
    `failed` and `retry_at` are of the latest request, None after a success.
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
    )


def _context(key_hash: TokenKeyHash, column: str) -> bytes:
    return f"token {column} {key_hash}".encode()
