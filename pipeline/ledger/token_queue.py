"""Tokens to ask for: a queue in the rows of the token keys themselves, so that nothing is asked for twice or forgotten.

A key stands in the queue from `ask_at` on, in one of three turns, until the answer is stored: a process that dies with
a key in hand leaves it there, and its lease ends. Nothing here reads more than what is due.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger.batch import Dialect, among, encode, recordset, storable
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import TO_ASK, UNSETTLED, TokenState, security_token
from pipeline.ledger.token_rows import PUBLIC, StoredToken, key_columns, stored_token
from pipeline.lodgment.breaker import CLOCK_TOLERANCE
from pipeline.lodgment.lodgment import Reason
from pipeline.lodgment.references import TokenKey, TokenKeyHash

_table = security_token.c
_moment = _table.ask_at.type


class Turn(IntEnum):
    """Why a token is asked for; of what is due, the lower turn goes first."""

    FIRST = 1
    """Lodgments wait for it."""
    RENEWAL = 2
    """The token at hand is good and in demand, and ages."""
    WARM = 3
    """Lodgments will need it at a time to come."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A key that lodgments wait for now; `at_once` overrides the time of a retry."""

    key: TokenKey
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Bespoken:
    """A key needed at `until`: asked for from `ask_at` on, unless its token is good beyond `good_until`."""

    key: TokenKey
    ask_at: datetime
    until: datetime
    good_until: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """A key that this process may ask for until its lease ends."""

    stored: StoredToken
    turn: Turn
    queued_at: datetime


async def want(tx: Tx, wanted: Collection[Wanted], now: datetime, good_until: datetime) -> None:
    """Put keys into the queue for lodgments that wait, and lock their rows: until this transaction ends, no answer is
    stored, so what is parked in it will be found by `settle`. A key whose token, stored in this instant, is good beyond
    `good_until` stays as it is; one that is over, or that a clock which has stepped back would revive, is wiped.
    """
    by_hash = {one.key.hash(): one for one in wanted}
    if not by_hash:
        return
    batch = [_row(key_hash, one.key, now) | {"at_once": one.at_once} for key_hash, one in sorted(by_hash.items())]
    bounds = {"now": now, "later": now + CLOCK_TOLERANCE, "good_until": good_until}
    await tx.connection.execute(_want(tx.dialect), {"batch": encode(batch), **bounds})


async def warm(tx: Tx, bespoken: Collection[Bespoken], now: datetime) -> None:
    """See that these keys have a token at a time to come, and keep it renewed until then."""
    by_hash = {one.key.hash(): one for one in sorted(bespoken, key=lambda one: one.until)}
    batch = [
        _row(key_hash, one.key, now)
        | {
            "ask_turn": Turn.WARM,
            "ask_at": one.ask_at,
            "wanted_until": one.until,
            "good_until": one.good_until,
        }
        for key_hash, one in sorted(by_hash.items())
    ]
    if batch:
        await tx.connection.execute(_warm(tx.dialect), {"batch": encode(batch)})


async def due(tx: Tx, sts: str, now: datetime, latest_lease: datetime) -> bool:
    """Whether anything at all could be taken: a look that locks nothing."""
    bounds = {"of_sts": sts, "now": now, "latest": latest_lease}
    for turn in Turn:
        if (await tx.connection.execute(_due(), {**bounds, "turn": turn})).first() is not None:
            return True
    return False


async def under_way(tx: Tx, now: datetime, latest_lease: datetime) -> int:
    """How many requests all processes have under way. A lease beyond `latest_lease` is of a clock that stepped back."""
    return int((await tx.connection.execute(_under_way(), {"now": now, "latest": latest_lease})).scalar_one())


async def take(
    tx: Tx,
    sts: str,
    turn: Turn,
    owner: str,
    now: datetime,
    lease_until: datetime,
    limit: int,
    *,
    but: Collection[str] = (),
    only: str | None = None,
) -> list[Taken]:
    """Win the right to ask for up to `limit` keys of one turn, longest due first: not for credentials in `but`."""
    bounds = {
        "of_sts": sts,
        "turn": turn,
        "owner": owner,
        "now": now,
        "lease": lease_until,
        "latest": lease_until + CLOCK_TOLERANCE,
        "limit": limit,
        "keys": encode(sorted(but)),
        "only": only,
    }
    rows = await tx.connection.execute(_take(tx.dialect), bounds)
    return [Taken(stored_token(row, None), turn, row.ask_at) for row in rows]


async def lapse(tx: Tx, sts: str, now: datetime, used_since: datetime, limit: int) -> None:
    """Let renewals go that are due and not in demand: not used since then, and not bespoken."""
    bounds = {"of_sts": sts, "turn": Turn.RENEWAL, "now": now, "used_since": used_since, "limit": limit}
    await tx.connection.execute(_lapse(), bounds)


async def refuse(tx: Tx, sts: str, credential: str, reason: Reason, now: datetime, limit: int) -> int:
    """Answer what is queued for a refused credential with the refusal, without asking; how many keys."""
    changes = {
        "of_sts": sts,
        "credential_id": credential,
        "now": now,
        "limit": limit,
        "code": storable(reason.code),
        "text": storable(reason.text),
        "who": reason.who,
    }
    return (await tx.connection.execute(_refuse(), changes)).rowcount


async def unsettled(tx: Tx, limit: int) -> list[StoredToken]:
    """Keys whose answer those who wait have not had yet, oldest first; locked, without what another process has."""
    rows = await tx.connection.execute(_unsettled(), {"limit": limit})
    return [stored_token(row, None) for row in rows]


async def settled(tx: Tx, hashes: Collection[TokenKeyHash]) -> None:
    """Everybody who waited for these keys has had the answer."""
    await tx.connection.execute(_settled(tx.dialect), {"keys": encode(sorted(hashes))})


async def clock_stepped_back(tx: Tx, now: datetime) -> int:
    """Make due at once what a clock that was ahead has put off; how many keys."""
    bounds = {"now": now, "later": now + CLOCK_TOLERANCE}
    return (await tx.connection.execute(_clock_stepped_back(), bounds)).rowcount


def _row(key_hash: TokenKeyHash, key: TokenKey, now: datetime) -> dict[str, object]:
    return {
        **key_columns(key_hash, key),
        "state": TokenState.REQUESTED,
        "requested_at": now,
        "renewals": 0,
        "last_used_at": now,
        "ask_turn": Turn.FIRST,
        "ask_at": now,
    }


def _at(name: str) -> sa.BindParameter[datetime]:
    return sa.bindparam(name, type_=_moment)


def _free() -> sa.ColumnElement[bool]:
    lease = _table.lease_until
    return sa.or_(lease.is_(None), lease <= _at("now"), lease > _at("latest"))


def _of_turn() -> sa.ColumnElement[bool]:
    return sa.and_(
        _table.sts == sa.bindparam("of_sts", type_=sa.Text),
        _table.ask_turn == sa.bindparam("turn", type_=sa.SmallInteger),
        TO_ASK,
        _table.ask_at <= _at("now"),
    )


def _upsert(dialect: Dialect, extra: Sequence[sa.Column[Any]]) -> Any:  # noqa: ANN401  - two dialects, two classes of insert
    rows = recordset(dialect, (*PUBLIC, *extra))
    source = sa.select(*(rows.c[column.name] for column in PUBLIC)).where(sa.true())
    insert = postgresql.insert if dialect is Dialect.POSTGRESQL else sqlite.insert
    return insert(security_token).from_select([column.name for column in PUBLIC], source), rows


@cache
def _want(dialect: Dialect) -> sa.Executable:
    at_once = sa.Column("at_once", sa.Boolean)
    statement, rows = _upsert(dialect, (at_once,))
    hurried = _table.key_hash.in_(sa.select(rows.c.key_hash).where(rows.c.at_once))
    stepped_back = sa.or_(_table.last_used_at > _at("later"), _table.requested_at > _at("later"))
    worthless = sa.or_(_table.expires_at <= _at("now"), stepped_back)
    good = sa.and_(_table.expires_at > _at("good_until"), ~stepped_back)
    waits = sa.and_(_table.ask_at.is_not(None), _table.ask_turn == Turn.FIRST)
    to_retry = sa.and_(_table.ask_at.is_not(None), _table.retry_at > _at("now"))
    wiped = {
        name: sa.case((worthless, None), else_=_table[name])
        for name in ("assertion", "proof_key", "assertion_id", "created_at", "expires_at")
    }
    return statement.on_conflict_do_update(  # type: ignore[no-any-return]  # see _upsert
        index_elements=["key_hash"],
        set_={
            **wiped,
            "state": sa.case((worthless, TokenState.REQUESTED.value), else_=_table.state),
            "ask_at": sa.case(
                (good, _table.ask_at),
                (sa.or_(stepped_back, hurried), _at("now")),
                (sa.or_(waits, to_retry), _table.ask_at),
                else_=_at("now"),
            ),
            "ask_turn": sa.case((good, _table.ask_turn), else_=int(Turn.FIRST)),
            "requested_at": sa.case((stepped_back, _at("now")), else_=_table.requested_at),
            "last_used_at": _at("now"),
        },
    )


@cache
def _warm(dialect: Dialect) -> sa.Executable:
    good_until = sa.Column("good_until", _moment)
    statement, rows = _upsert(dialect, (good_until,))
    new = statement.excluded
    enough = (
        sa.exists()
        .where(rows.c.key_hash == _table.key_hash, _table.expires_at > rows.c.good_until)
        .correlate(security_token)
    )
    still = sa.or_(_table.ask_at.is_not(None), sa.and_(_table.state == TokenState.VALID, enough))
    later = sa.or_(_table.wanted_until.is_(None), _table.wanted_until < new.wanted_until)
    return statement.on_conflict_do_update(  # type: ignore[no-any-return]  # see _upsert
        index_elements=["key_hash"],
        set_={
            "wanted_until": sa.case((later, new.wanted_until), else_=_table.wanted_until),
            "ask_at": sa.case((still, _table.ask_at), else_=new.ask_at),
            "ask_turn": sa.case((still, _table.ask_turn), else_=new.ask_turn),
        },
    )


@cache
def _due() -> sa.Select[Any]:
    return sa.select(sa.literal(1)).select_from(security_token).where(_of_turn(), _free()).limit(1)


@cache
def _under_way() -> sa.Select[Any]:
    lease = _table.lease_until
    return sa.select(sa.func.count()).where(lease > _at("now"), lease <= _at("latest"))


@cache
def _take(dialect: Dialect) -> sa.Executable:
    only = sa.bindparam("only", type_=sa.Text)
    found = (
        sa.select(_table.key_hash)
        .where(
            _of_turn(),
            _free(),
            ~among(dialect, _table.credential),
            sa.or_(only.is_(None), _table.credential == only),
        )
        .order_by(_table.ask_at)
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)
        .cte("found")
    )
    good = sa.and_(_table.assertion.is_not(None), _table.expires_at > _at("now"))
    return (
        sa.update(security_token)
        .where(_table.key_hash.in_(sa.select(found.c.key_hash)))
        .values(
            state=sa.case((good, TokenState.VALID.value), else_=TokenState.REQUESTED.value),
            lease_owner=sa.bindparam("owner", type_=sa.Text),
            lease_until=_at("lease"),
            requested_at=_at("now"),
            # A clock that has stepped back starts anew here: see `StoredToken.usable`.
            last_used_at=sa.case((_table.last_used_at > _at("now"), _at("now")), else_=_table.last_used_at),
        )
        .returning(*PUBLIC)
    )


@cache
def _lapse() -> sa.Update:
    found = (
        sa.select(_table.key_hash)
        .where(
            _of_turn(),
            _table.last_used_at < _at("used_since"),
            sa.or_(_table.wanted_until.is_(None), _table.wanted_until <= _at("now")),
        )
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)
        .cte("found")
    )
    return (
        sa.update(security_token)
        .where(_table.key_hash.in_(sa.select(found.c.key_hash)))
        .values(ask_at=None, ask_turn=None)
    )


@cache
def _refuse() -> sa.Update:
    found = (
        sa.select(_table.key_hash)
        .where(
            _table.sts == sa.bindparam("of_sts", type_=sa.Text),
            TO_ASK,
            _table.ask_at <= _at("now"),
            sa.or_(_table.lease_until.is_(None), _table.lease_until <= _at("now")),
            _table.credential == sa.bindparam("credential_id", type_=sa.Text),
        )
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)
        .cte("found")
    )
    good = sa.and_(_table.assertion.is_not(None), _table.expires_at > _at("now"))
    return (
        sa.update(security_token)
        .where(_table.key_hash.in_(sa.select(found.c.key_hash)))
        .values(
            state=sa.case((good, TokenState.VALID.value), else_=TokenState.FAILED.value),
            ask_at=None,
            ask_turn=None,
            failed_code=sa.bindparam("code", type_=sa.Text),
            failed_text=sa.bindparam("text", type_=sa.Text),
            failed_who=sa.bindparam("who", type_=sa.Text),
            retry_at=None,
            requested_at=_at("now"),
            unsettled_at=_at("now"),
        )
    )


@cache
def _unsettled() -> sa.Select[Any]:
    return (
        sa.select(*PUBLIC)
        .where(UNSETTLED)
        .order_by(_table.unsettled_at)
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )


@cache
def _settled(dialect: Dialect) -> sa.Update:
    return sa.update(security_token).where(among(dialect, _table.key_hash)).values(unsettled_at=None)


@cache
def _clock_stepped_back() -> sa.Update:
    ahead = sa.or_(_table.requested_at > _at("later"), _table.last_used_at > _at("later"))
    return sa.update(security_token).where(TO_ASK, _table.ask_at > _at("now"), ahead).values(ask_at=_at("now"))
