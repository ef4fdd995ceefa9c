"""Questions about tokens, for people: counts over all keys in one statement, and single keys a page at a time."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from pipeline.ledger.batch import Dialect, among, encode
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import WAITING_FOR_TOKEN, lodgment, security_token
from pipeline.ledger.token_rows import PUBLIC, StoredToken, stored_token
from pipeline.lodgment.references import TokenKeyHash

_table = security_token.c
_moment = _table.expires_at.type


@dataclass(frozen=True, slots=True)
class TokenSummary:
    """One token key for people: without the token, with the number of lodgments that wait for it."""

    token: StoredToken
    waiting: int


@dataclass(frozen=True, slots=True)
class CredentialCount:
    """The token keys of one credential; `failing` ones had their latest request refused, good token or not."""

    environment: str
    credential: str
    keys: int
    good: int
    expiring: int
    failing: int
    asking: int
    queued: int


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """Which keys to list; what is None or False does not narrow."""

    failed: bool = False
    expires_within: timedelta | None = None
    employer: str | None = None
    credential: str | None = None


async def counts(tx: Tx, now: datetime, soon: timedelta) -> list[CredentialCount]:
    """All keys by credential; `expiring` are good and not for longer than `soon`."""
    rows = await tx.connection.execute(_counts(), {"now": now, "soon": now + soon})
    return [CredentialCount(*row) for row in rows]


async def waiting(tx: Tx) -> int:
    """How many lodgments wait for a token."""
    return int((await tx.connection.execute(_waiting())).scalar_one())


async def listed(tx: Tx, wanted: TokenFilter, now: datetime, limit: int) -> list[TokenSummary]:
    """At most `limit` keys: failing ones first, then those to be asked for, then by expiry. Without the secrets."""
    bounds: dict[str, object] = {"now": now, "limit": limit}
    if wanted.expires_within is not None:
        bounds["before"] = now + wanted.expires_within
    rows = (await tx.connection.execute(_listed(wanted), bounds)).all()
    found = [stored_token(row, None) for row in rows]
    count = await _waiting_for(tx, [one.key_hash for one in found])
    return [TokenSummary(one, count.get(one.key_hash, 0)) for one in found]


async def _waiting_for(tx: Tx, hashes: Collection[TokenKeyHash]) -> dict[TokenKeyHash, int]:
    rows = await tx.connection.execute(_waiting_by_key(tx.dialect), {"keys": encode(hashes)})
    return {TokenKeyHash(row.token_key): row.number for row in rows}


def _now() -> sa.BindParameter[datetime]:
    return sa.bindparam("now", type_=_moment)


def _number(condition: sa.ColumnElement[bool], label: str) -> sa.Label[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0).label(label)


@cache
def _counts() -> sa.Select[Any]:
    soon = sa.bindparam("soon", type_=_moment)
    leased = sa.and_(_table.lease_until.is_not(None), _table.lease_until > _now())
    return (
        sa.select(
            _table.environment,
            _table.credential,
            sa.func.count().label("keys"),
            _number(_table.expires_at > _now(), "good"),
            _number(sa.and_(_table.expires_at > _now(), _table.expires_at <= soon), "expiring"),
            _number(_table.failed_code.is_not(None), "failing"),
            _number(leased, "asking"),
            _number(sa.and_(_table.ask_at <= _now(), ~leased), "queued"),
        )
        .group_by(_table.environment, _table.credential)
        .order_by(_table.environment, _table.credential)
    )


@cache
def _waiting() -> sa.Select[Any]:
    return sa.select(sa.func.count()).select_from(lodgment).where(WAITING_FOR_TOKEN)


@cache
def _waiting_by_key(dialect: Dialect) -> sa.Select[Any]:
    return (
        sa.select(lodgment.c.token_key, sa.func.count().label("number"))
        .where(among(dialect, lodgment.c.token_key), WAITING_FOR_TOKEN)
        .group_by(lodgment.c.token_key)
    )


def _listed(wanted: TokenFilter) -> sa.Select[Any]:
    failing = _table.failed_code.is_not(None)
    due = sa.and_(_table.ask_at.is_not(None), _table.ask_at <= _now())
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.failed:
        conditions.append(failing)
    if wanted.expires_within is not None:
        before = sa.bindparam("before", type_=_moment)
        conditions += [_table.expires_at > _now(), _table.expires_at <= before]
    if wanted.employer is not None:
        conditions.append(_table.second_party == wanted.employer)
    if wanted.credential is not None:
        conditions.append(_table.credential == wanted.credential)
    order: Sequence[sa.ColumnElement[Any]] = (
        sa.case((failing, 0), (due, 1), else_=2),
        _table.expires_at,
        _table.key_hash,
    )
    return sa.select(*PUBLIC).where(*conditions).order_by(*order).limit(sa.bindparam("limit", type_=sa.Integer))
