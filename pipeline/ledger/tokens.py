"""Security tokens: one row per token key, and the lease by which one process at a time asks the token service.

When and in which order they are asked for is in `token_queue`.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger.batch import Dialect, among, encode, recordset, storable
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import TokenState, security_token
from pipeline.ledger.token_rows import PUBLIC, StoredToken, Turn, key_columns, seal_secrets, stored_token, token_of
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Reason
from pipeline.lodgment.references import TokenKey, TokenKeyHash
from pipeline.protocol.wstrust import SecurityToken

REFUSED_BY_AGENCY = "token.refused"
_TOUCH_EVERY = timedelta(minutes=1)

_table = security_token.c


async def load(tx: Tx, hashes: Collection[TokenKeyHash]) -> dict[TokenKeyHash, StoredToken]:
    """What is known of these keys, tokens included; unknown keys are left out.

    Raises:
        RefusedError: `vault.damaged`.
    """
    rows = await tx.connection.execute(_load(tx.dialect), {"keys": encode(hashes)})
    return {TokenKeyHash(row.key_hash): stored_token(row, token_of(tx.vault, row)) for row in rows}


async def look(tx: Tx, hashes: Collection[TokenKeyHash]) -> dict[TokenKeyHash, StoredToken]:
    """What is known of these keys, without the tokens; unknown keys are left out."""
    rows = await tx.connection.execute(_look(tx.dialect), {"keys": encode(hashes)})
    return {TokenKeyHash(row.key_hash): stored_token(row, None) for row in rows}


async def claim(
    tx: Tx, keys: Sequence[TokenKey], owner: str, now: datetime, lease_until: datetime
) -> set[TokenKeyHash]:
    """Win the right to ask for tokens until `lease_until`: for keys never seen, or whose lease is given back or over.

    A token that is still good stays usable meanwhile. `retry_at` is the caller's to obey.
    """
    if not keys:
        return set()
    # By hash: a key given twice would fail the statement, and two batches in different orders would deadlock.
    batch = [_claim_row(key_hash, key, owner, now, lease_until) for key_hash, key in sorted(_by_hash(keys).items())]
    rows = await tx.connection.execute(_claim(tx.dialect), {"batch": encode(batch), "now": now})
    return {TokenKeyHash(key_hash) for key_hash in rows.scalars()}


async def store(
    tx: Tx, key_hash: TokenKeyHash, owner: str, token: SecurityToken, now: datetime, renew_at: datetime | None = None
) -> bool:
    """Keep a token and give the lease back; False if another has the lease. Who waits for it is then to be told."""
    changes = {
        "of_key": key_hash,
        "owner": owner,
        "now": now,
        "renew": renew_at,
        "turn": None if renew_at is None else Turn.RENEWAL,
        "token_assertion_id": token.assertion_id,
        "token_created_at": token.created_at,
        "token_expires_at": token.expires_at,
        **{f"token_{name}": value for name, value in seal_secrets(tx.vault, key_hash, token).items()},
    }
    return (await tx.connection.execute(_store(), changes)).rowcount == 1


async def fail(
    tx: Tx, key_hash: TokenKeyHash, owner: str, reason: Reason, retry_at: datetime | None, now: datetime
) -> bool:
    """Note why no token could be had and give the lease back; False if the lease is not the owner's.

    A token that is still good stays valid: only its renewal failed. Without `retry_at` it is not asked for again, and
    who waits for it is to be told.
    """
    changes = {
        "of_key": key_hash,
        "owner": owner,
        "now": now,
        "code": storable(reason.code),
        "text": storable(reason.text),
        "who": reason.who,
        "retry": retry_at,
    }
    return (await tx.connection.execute(_fail(), changes)).rowcount == 1


async def discard(tx: Tx, key_hash: TokenKeyHash, expires_at: datetime) -> None:
    """Forget the token that the agency refused, if it is still the one at hand: known by its expiry."""
    await tx.connection.execute(_discard(), {"of_key": key_hash, "expired": expires_at})


async def free(tx: Tx) -> None:
    """Give back every lease. Only for the embedded profile: whoever was asking is gone."""
    await tx.connection.execute(_free())


async def touch(tx: Tx, hashes: Collection[TokenKeyHash], now: datetime) -> None:
    """Note that there is demand for these keys."""
    batch = {"keys": encode(sorted(hashes)), "now": now, "noted": now - _TOUCH_EVERY}
    await tx.connection.execute(_touch(tx.dialect), batch)


def _by_hash(keys: Sequence[TokenKey]) -> dict[TokenKeyHash, TokenKey]:
    return {key.hash(): key for key in keys}


def _claim_row(
    key_hash: TokenKeyHash, key: TokenKey, owner: str, now: datetime, lease_until: datetime
) -> dict[str, object]:
    return {
        **key_columns(key_hash, key),
        "state": TokenState.REQUESTED,
        "lease_owner": owner,
        "lease_until": lease_until,
        "requested_at": now,
        "renewals": 0,
        "last_used_at": now,
        "ask_turn": Turn.FIRST,
        "ask_at": now,
    }


def _now() -> sa.BindParameter[datetime]:
    return sa.bindparam("now", type_=_table.expires_at.type)


def _retry() -> sa.BindParameter[datetime]:
    return sa.bindparam("retry", type_=_table.retry_at.type)


def _state_unless_good(state: TokenState) -> sa.Case[str]:
    """`state`, but a token that is still good stays valid."""
    still_good = sa.and_(_table.assertion.is_not(None), _table.expires_at > _now())
    return sa.case((still_good, sa.literal_column(f"'{TokenState.VALID}'")), else_=sa.literal_column(f"'{state}'"))


@cache
def _load(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(security_token).where(among(dialect, _table.key_hash))


@cache
def _look(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(*PUBLIC).where(among(dialect, _table.key_hash))


@cache
def _claim(dialect: Dialect) -> sa.Executable:
    rows = recordset(dialect, PUBLIC)
    source = sa.select(*rows.c).where(sa.true())
    insert = postgresql.insert if dialect is Dialect.POSTGRESQL else sqlite.insert
    statement = insert(security_token).from_select([column.name for column in PUBLIC], source)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["key_hash"],
        set_={
            "state": _state_unless_good(TokenState.REQUESTED),
            "lease_owner": new.lease_owner,
            "lease_until": new.lease_until,
            "requested_at": new.requested_at,
        },
        where=sa.or_(_table.lease_until.is_(None), _table.lease_until <= _now()),
    ).returning(_table.key_hash)


def _held_by_owner() -> sa.ColumnElement[bool]:
    # A lease that is over and was not taken by another is still the owner's: a late token is as good as a prompt one.
    return sa.and_(
        _table.key_hash == sa.bindparam("of_key", type_=sa.Text),
        _table.lease_owner == sa.bindparam("owner", type_=sa.Text),
    )


@cache
def _store() -> sa.Update:
    kept = ("assertion", "proof_key", "assertion_id", "created_at", "expires_at")
    return (
        sa.update(security_token)
        .where(_held_by_owner())
        .values(
            {
                **{name: sa.bindparam(f"token_{name}", type_=_table[name].type) for name in kept},
                "state": TokenState.VALID,
                "renewals": _table.renewals + sa.case((_table.assertion.is_not(None), 1), else_=0),
                "lease_owner": None,
                "lease_until": None,
                "failed_code": None,
                "failed_text": None,
                "failed_who": None,
                "retry_at": None,
                "failures": None,
                "ask_at": sa.bindparam("renew", type_=_table.ask_at.type),
                "ask_turn": sa.bindparam("turn", type_=sa.SmallInteger),
                "unsettled_at": _now(),
            }
        )
    )


@cache
def _discard() -> sa.Update:
    return (
        sa.update(security_token)
        .where(
            _table.key_hash == sa.bindparam("of_key", type_=sa.Text),
            _table.expires_at == sa.bindparam("expired", type_=_table.expires_at.type),
        )
        .values(
            state=TokenState.FAILED,
            assertion=None,
            proof_key=None,
            assertion_id=None,
            created_at=None,
            expires_at=None,
            failed_code=REFUSED_BY_AGENCY,
            failed_text="The agency refused this token; a new one is asked for.",
            failed_who=Party.NOBODY,
        )
    )


@cache
def _fail() -> sa.Update:
    return (
        sa.update(security_token)
        .where(_held_by_owner())
        .values(
            state=_state_unless_good(TokenState.FAILED),
            lease_owner=None,
            lease_until=None,
            failed_code=sa.bindparam("code", type_=sa.Text),
            failed_text=sa.bindparam("text", type_=sa.Text),
            failed_who=sa.bindparam("who", type_=sa.Text),
            retry_at=_retry(),
            failures=sa.func.coalesce(_table.failures, 0) + 1,
            ask_at=_retry(),
            ask_turn=sa.case((_retry().is_(None), None), else_=_table.ask_turn),
            unsettled_at=sa.case((_retry().is_(None), _now()), else_=_table.unsettled_at),
        )
    )


@cache
def _free() -> sa.Update:
    return sa.update(security_token).values(lease_owner=None, lease_until=None)


@cache
def _touch(dialect: Dialect) -> sa.Update:
    # Once a minute is enough to show demand; every batch would make one row the bottleneck of all workers.
    noted = sa.bindparam("noted", type_=_table.last_used_at.type)
    # Its renewal had lapsed for want of demand: now there is some.
    lapsed = sa.and_(_table.ask_at.is_(None), _table.state == TokenState.VALID)
    return (
        sa.update(security_token)
        .where(among(dialect, _table.key_hash), _table.last_used_at < noted)
        .values(
            last_used_at=_now(),
            ask_at=sa.case((lapsed, _now()), else_=_table.ask_at),
            ask_turn=sa.case((lapsed, int(Turn.RENEWAL)), else_=_table.ask_turn),
        )
    )
