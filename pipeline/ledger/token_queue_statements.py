"""The statements behind the queue of tokens to ask for, built once for each database."""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger.batch import Dialect, among, recordset
from pipeline.ledger.tables import TO_ASK, UNSETTLED, TokenState, security_token
from pipeline.ledger.token_rows import PUBLIC, Turn

_table = security_token.c
_moment = _table.ask_at.type


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
def want(dialect: Dialect) -> sa.Executable:
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
def warm(dialect: Dialect) -> sa.Executable:
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
def due() -> sa.Select[Any]:
    return sa.select(sa.literal(1)).select_from(security_token).where(_of_turn(), _free()).limit(1)


@cache
def under_way() -> sa.Select[Any]:
    lease = _table.lease_until
    return sa.select(sa.func.count()).where(lease > _at("now"), lease <= _at("latest"))


@cache
def take(dialect: Dialect) -> sa.Executable:
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
def lapse() -> sa.Update:
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
def refuse() -> sa.Update:
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
def unsettled() -> sa.Select[Any]:
    return (
        sa.select(*PUBLIC)
        .where(UNSETTLED)
        .order_by(_table.unsettled_at)
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )


@cache
def settled(dialect: Dialect) -> sa.Update:
    return sa.update(security_token).where(among(dialect, _table.key_hash)).values(unsettled_at=None)


@cache
def clock_stepped_back() -> sa.Update:
    ahead = sa.or_(_table.requested_at > _at("later"), _table.last_used_at > _at("later"))
    return sa.update(security_token).where(TO_ASK, _table.ask_at > _at("now"), ahead).values(ask_at=_at("now"))
