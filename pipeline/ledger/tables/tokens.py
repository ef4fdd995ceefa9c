"""The security tokens, one for each token key."""

from enum import StrEnum

import sqlalchemy as sa

from pipeline.ledger.tables.columns import Json, Moment, metadata, quoted
from pipeline.lodgment.references import SAML_2_0


class TokenState(StrEnum):
    """Where a token key stands with its security token service."""

    REQUESTED = "requested"
    """Claimed for the first time, or again after its token expired: no token can be used."""
    VALID = "valid"
    FAILED = "failed"


security_token = sa.Table(
    "security_token",
    metadata,
    sa.Column("key_hash", sa.Text, primary_key=True),
    sa.Column("environment", sa.Text, nullable=False),
    sa.Column("sts", sa.Text, nullable=False),
    sa.Column("applies_to", sa.Text, nullable=False),
    sa.Column("credential", sa.Text, nullable=False),
    sa.Column("second_party", sa.Text),
    sa.Column("software_id", sa.Text),
    sa.Column("claims", Json, nullable=False),
    sa.Column("key_size", sa.Integer, nullable=False),
    sa.Column("saml_version", sa.Text, nullable=False, server_default=SAML_2_0),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("assertion", sa.LargeBinary),
    sa.Column("proof_key", sa.LargeBinary),
    sa.Column("assertion_id", sa.Text),
    sa.Column("created_at", Moment),
    sa.Column("expires_at", Moment),
    sa.Column("lease_owner", sa.Text),
    sa.Column("lease_until", Moment),
    sa.Column("failed_code", sa.Text),
    sa.Column("failed_text", sa.Text),
    sa.Column("failed_who", sa.Text),
    sa.Column("retry_at", Moment),
    sa.Column("requested_at", Moment, nullable=False),
    sa.Column("renewals", sa.Integer, nullable=False),
    sa.Column("last_used_at", Moment, nullable=False),
    sa.Column("wanted_until", Moment),
    sa.Column("ask_turn", sa.SmallInteger),
    sa.Column("ask_at", Moment),
    sa.Column("failures", sa.Integer),
    sa.Column("unsettled_at", Moment),
    sa.CheckConstraint(f"state IN ({quoted(TokenState)})", "state"),
)
TO_ASK = security_token.c.ask_at.is_not(None)
sa.Index(
    "security_token_ask_idx",
    security_token.c.sts,
    security_token.c.ask_turn,
    security_token.c.ask_at,
    postgresql_where=TO_ASK,
    sqlite_where=TO_ASK,
)
LEASED = security_token.c.lease_until.is_not(None)
sa.Index("security_token_lease_idx", security_token.c.lease_until, postgresql_where=LEASED, sqlite_where=LEASED)
UNSETTLED = security_token.c.unsettled_at.is_not(None)
sa.Index(
    "security_token_unsettled_idx", security_token.c.unsettled_at, postgresql_where=UNSETTLED, sqlite_where=UNSETTLED
)
sa.Index("security_token_second_party_idx", security_token.c.second_party)
