"""Breakers and budgets: one row per service that may be down, shared by all processes.

Whoever changes a row locks it first, before any lodgment or token key: so no two transactions wait for each other.
"""

from collections.abc import Collection
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row

from pipeline.ledger.batch import Dialect, among, encode, storable
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import channel_state
from pipeline.lodgment.breaker import Breaker, BreakerScope, BreakerState
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Reason

_table = channel_state.c


async def lock(tx: Tx, scope: BreakerScope, name: str) -> Breaker:
    """The breaker, closed if it was never heard of; nobody else changes it before this transaction ends."""
    which = {"of_scope": scope, "of_name": name}
    row = (await tx.connection.execute(_lock(), which)).one_or_none()
    if row is None:
        fresh = {"scope": scope, "name": name, **_values(Breaker())}
        await tx.connection.execute(_add(tx.dialect), fresh)
        row = (await tx.connection.execute(_lock(), which)).one()
    return _breaker(row)


async def write(tx: Tx, scope: BreakerScope, name: str, breaker: Breaker) -> None:
    """Keep what became of a locked breaker."""
    await tx.connection.execute(_write(), {"of_scope": scope, "of_name": name, **_prefixed(_values(breaker))})


async def of(tx: Tx, scope: BreakerScope, names: Collection[str]) -> dict[str, Breaker]:
    """The breakers by name; those never heard of are left out."""
    rows = await tx.connection.execute(_of(tx.dialect), {"of_scope": scope, "keys": encode(sorted(names))})
    return {row.name: _breaker(row) for row in rows}


async def every(tx: Tx, scope: BreakerScope) -> dict[str, Breaker]:
    """All breakers of one scope that were ever heard of, by name."""
    rows = await tx.connection.execute(_every(), {"of_scope": scope})
    return {row.name: _breaker(row) for row in rows}


async def not_closed(tx: Tx, scope: BreakerScope) -> dict[str, Breaker]:
    """The breakers that stand in somebody's way, by name."""
    rows = await tx.connection.execute(_not_closed(), {"of_scope": scope})
    return {row.name: _breaker(row) for row in rows}


async def close(tx: Tx, scope: BreakerScope, name: str) -> bool:
    """Close the breaker; whether it was not closed."""
    which = {"of_scope": scope, "of_name": name}
    return (await tx.connection.execute(_close(), {**which, **_prefixed(_values(Breaker()))})).rowcount == 1


async def all_(tx: Tx) -> list[tuple[BreakerScope, str, Breaker]]:
    """Every breaker, for people."""
    rows = await tx.connection.execute(sa.select(channel_state).order_by(_table.scope, _table.name))
    return [(BreakerScope(row.scope), row.name, _breaker(row)) for row in rows]


def _values(breaker: Breaker) -> dict[str, object]:
    cause = breaker.cause
    return {
        "state": breaker.state,
        "cause_code": storable(cause.code) if cause else None,
        "cause_text": storable(cause.text) if cause else None,
        "cause_who": cause.who if cause else None,
        "opened_at": breaker.opened_at,
        "probe_at": breaker.probe_at,
        "openings": breaker.openings,
        "consecutive": breaker.consecutive,
        "answers": breaker.answers,
        "failures": breaker.failures,
        "window_since": breaker.window_since,
        "step": breaker.step,
        "step_since": breaker.step_since,
        "step_spent": breaker.step_spent,
        "allowance": breaker.allowance,
        "allowed_at": breaker.allowed_at,
        "canary_id": breaker.canary_id,
        "turned_away": list(breaker.turned_away),
    }


def _prefixed(values: dict[str, object]) -> dict[str, object]:
    return {f"new_{name}": value for name, value in values.items()}


def _breaker(row: Row[Any]) -> Breaker:
    return Breaker(
        state=BreakerState(row.state),
        cause=Reason(row.cause_code, row.cause_text, Party(row.cause_who)) if row.cause_code else None,
        opened_at=row.opened_at,
        probe_at=row.probe_at,
        openings=row.openings,
        consecutive=row.consecutive,
        answers=row.answers,
        failures=row.failures,
        window_since=row.window_since,
        step=row.step,
        step_since=row.step_since,
        step_spent=row.step_spent,
        allowance=row.allowance,
        allowed_at=row.allowed_at,
        canary_id=row.canary_id,
        turned_away=tuple(row.turned_away),
    )


def _this() -> sa.ColumnElement[bool]:
    return sa.and_(_table.scope == sa.bindparam("of_scope", type_=sa.Text), _named())


def _named() -> sa.ColumnElement[bool]:
    return _table.name == sa.bindparam("of_name", type_=sa.Text)


def _new_values() -> dict[str, sa.BindParameter[Any]]:
    return {name: sa.bindparam(f"new_{name}", type_=_table[name].type) for name in _values(Breaker())}


@cache
def _lock() -> sa.Select[Any]:
    return sa.select(channel_state).where(_this()).with_for_update()


@cache
def _add(dialect: Dialect) -> sa.Executable:
    insert = postgresql.insert if dialect is Dialect.POSTGRESQL else sqlite.insert
    return insert(channel_state).on_conflict_do_nothing(index_elements=["scope", "name"])


@cache
def _write() -> sa.Update:
    return sa.update(channel_state).where(_this()).values(_new_values())


@cache
def _close() -> sa.Update:
    return sa.update(channel_state).where(_this(), _table.state != BreakerState.CLOSED).values(_new_values())


@cache
def _of(dialect: Dialect) -> sa.Select[Any]:
    scope = sa.bindparam("of_scope", type_=sa.Text)
    return sa.select(channel_state).where(_table.scope == scope, among(dialect, _table.name))


@cache
def _every() -> sa.Select[Any]:
    return sa.select(channel_state).where(_table.scope == sa.bindparam("of_scope", type_=sa.Text))


@cache
def _not_closed() -> sa.Select[Any]:
    scope = sa.bindparam("of_scope", type_=sa.Text)
    return sa.select(channel_state).where(_table.scope == scope, _table.state != BreakerState.CLOSED)
