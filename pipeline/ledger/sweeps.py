"""What sweeps look for beside the due times, and their own notes: when each kind last ran, over all schedulers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger.attempts import attempt_of
from pipeline.ledger.batch import Dialect, among, encode
from pipeline.ledger.lodgment_rows import COLUMNS, lodgment_of
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import TO_ASK, WAITING_FOR_TOKEN, attempt, hold, lodgment, quarantine, security_token, sweep
from pipeline.lodgment.failures import Party
from pipeline.lodgment.holds import HoldState
from pipeline.lodgment.lodgment import Attempt, Lodgment, Reason
from pipeline.lodgment.references import earliest_id
from pipeline.lodgment.states import State
from pipeline.lodgment.sweeping import SweepKind, Swept


@dataclass(frozen=True, slots=True)
class SweepNote:
    """One kind of sweep: when it last ran and last found something, and how many it has put right so far."""

    kind: SweepKind
    last_run_at: datetime
    looked_until: datetime | None
    last_acted_at: datetime | None
    last_count: int | None
    acted: int


@dataclass(frozen=True, slots=True)
class Unserved:
    """Token keys that are due and that nobody asks for."""

    count: int
    since: datetime | None


async def note(tx: Tx, kinds: Collection[SweepKind], now: datetime, swept: Collection[Swept] = ()) -> None:
    """Note that these kinds ran, and what they put right."""
    counts = {one.kind: one.count for one in swept}
    for kind in sorted(kinds):  # sorted, so that two schedulers wait for each other instead of deadlocking
        count = counts.get(kind, 0)
        acted_at, last_count = (now, count) if count else (None, None)
        values = {"kind": kind, "now": now, "acted_at": acted_at, "last_count": last_count, "count": count}
        await tx.connection.execute(_note(tx.dialect), values)


async def looked_until(tx: Tx, kind: SweepKind, until: datetime) -> None:
    """Note how far a sweep has come that looks at everything once, in the order of time."""
    await tx.connection.execute(_looked_until(), {"of_kind": kind, "until": until})


async def notes(tx: Tx) -> dict[SweepKind, SweepNote]:
    """Every kind that ever ran."""
    rows = await tx.connection.execute(sa.select(sweep))
    known = set(SweepKind)
    return {
        SweepKind(row.kind): SweepNote(
            SweepKind(row.kind), row.last_run_at, row.looked_until, row.last_acted_at, row.last_count, row.acted
        )
        for row in rows
        if row.kind in known
    }


async def waiting_for_nothing(tx: Tx, limit: int) -> list[Lodgment]:
    """Lodgments that wait for a token whose key stands in no queue and has no answer to tell, the oldest first."""
    rows = await tx.connection.execute(_waiting_for_nothing(), {"limit": limit})
    return [lodgment_of(row) for row in rows]


async def unserved(tx: Tx, before: datetime, but: Collection[str]) -> Unserved:
    """Token keys due since `before`, except those of credentials in `but`; none while any request is under way."""
    values = {"before": before, "keys": encode(sorted(but))}
    row = (await tx.connection.execute(_unserved(tx.dialect), values)).one()
    return Unserved(row.number, row.since)


async def held_by_an_ended_hold(tx: Tx, limit: int) -> list[Lodgment]:
    """Lodgments that were left behind when their hold ended; locked."""
    rows = await tx.connection.execute(_held_by_ended(), {"limit": limit})
    return [lodgment_of(row) for row in rows]


async def forsaken_holds(tx: Tx, limit: int) -> list[tuple[UUID, State]]:
    """Released holds whose first lodgment ended or is held: nobody will say what they wait for. With its state."""
    rows = await tx.connection.execute(_forsaken(), {"limit": limit})
    return [(row.id, State(row.state)) for row in rows]


async def quarantined(tx: Tx, ids: Collection[UUID]) -> dict[UUID, Reason]:
    """Of these lodgments, those with a message in quarantine, and why the last one is there."""
    if not ids:
        return {}
    rows = await tx.connection.execute(_quarantined(tx.dialect), {"keys": encode(ids)})
    return {row.lodgment_id: Reason(row.code, row.reason, Party.OPERATOR) for row in rows}


async def open_attempts(tx: Tx, since: datetime, until: datetime, limit: int) -> Sequence[Attempt]:
    """Attempts begun in this time that nobody completed, of lodgments that are not at that attempt any more."""
    bounds = {"low": earliest_id(since), "high": earliest_id(until), "limit": limit}
    return [attempt_of(row) for row in await tx.connection.execute(_open_attempts(), bounds)]


@cache
def _note(dialect: Dialect) -> sa.Executable:
    insert = postgresql.insert if dialect is Dialect.POSTGRESQL else sqlite.insert
    moment = sweep.c.last_run_at.type
    acted_at, count = sa.bindparam("acted_at", type_=moment), sa.bindparam("count", type_=sa.BigInteger)
    last_count = sa.bindparam("last_count", type_=sa.BigInteger)
    made = insert(sweep).values(
        kind=sa.bindparam("kind", type_=sa.Text),
        last_run_at=sa.bindparam("now", type_=moment),
        last_acted_at=acted_at,
        last_count=last_count,
        acted=count,
    )
    new = made.excluded
    return made.on_conflict_do_update(
        index_elements=["kind"],
        set_={
            "last_run_at": new.last_run_at,
            "last_acted_at": sa.func.coalesce(new.last_acted_at, sweep.c.last_acted_at),
            "last_count": sa.func.coalesce(new.last_count, sweep.c.last_count),
            "acted": sweep.c.acted + new.acted,
        },
    )


@cache
def _looked_until() -> sa.Executable:
    until = sa.bindparam("until", type_=sweep.c.looked_until.type)
    return sa.update(sweep).where(sweep.c.kind == sa.bindparam("of_kind", type_=sa.Text)).values(looked_until=until)


def _limit() -> sa.BindParameter[int]:
    return sa.bindparam("limit", type_=sa.Integer)


@cache
def _waiting_for_nothing() -> sa.Executable:
    served = sa.exists().where(
        security_token.c.key_hash == lodgment.c.token_key,
        sa.or_(TO_ASK, security_token.c.unsettled_at.is_not(None)),
    )
    return (
        sa.select(*COLUMNS)
        .where(WAITING_FOR_TOKEN, lodgment.c.token_key.is_not(None), ~served)
        .order_by(lodgment.c.id)
        .limit(_limit())
        .with_for_update(skip_locked=True, of=lodgment)
    )


@cache
def _unserved(dialect: Dialect) -> sa.Executable:
    before = sa.bindparam("before", type_=security_token.c.ask_at.type)
    asked = security_token.alias("asked")
    return sa.select(sa.func.count().label("number"), sa.func.min(security_token.c.ask_at).label("since")).where(
        TO_ASK,
        security_token.c.ask_turn == 1,
        security_token.c.ask_at < before,
        ~among(dialect, security_token.c.credential),
        # A lease that ended after `before` was held by somebody who asked since then.
        ~sa.exists().where(asked.c.lease_until.is_not(None), asked.c.lease_until > before),
    )


@cache
def _held_by_ended() -> sa.Executable:
    return (
        sa.select(*COLUMNS)
        .join(hold, hold.c.id == lodgment.c.hold_id)
        .where(lodgment.c.state == State.HELD, hold.c.state == HoldState.ENDED)
        .order_by(lodgment.c.id)
        .limit(_limit())
        .with_for_update(skip_locked=True, of=lodgment)
    )


@cache
def _forsaken() -> sa.Select[Any]:
    over = (State.ACCEPTED, State.PARTIALLY_ACCEPTED, State.REJECTED, State.CANCELLED, State.HELD)
    return (
        sa.select(hold.c.id, lodgment.c.state)
        .join(lodgment, lodgment.c.id == hold.c.canary_id)
        .where(hold.c.state == HoldState.PROBING, lodgment.c.state.in_(over))
        .order_by(hold.c.id)
        .limit(_limit())
    )


@cache
def _quarantined(dialect: Dialect) -> sa.Select[Any]:
    # Kept messages are few; the last one of each lodgment comes last and stays.
    return (
        sa.select(quarantine.c.lodgment_id, quarantine.c.code, quarantine.c.reason)
        .where(quarantine.c.released_at.is_(None), among(dialect, quarantine.c.lodgment_id))
        .order_by(quarantine.c.id)
    )


@cache
def _open_attempts() -> sa.Select[Any]:
    low, high = (sa.bindparam(name, type_=attempt.c.id.type) for name in ("low", "high"))
    at_it = sa.exists().where(
        lodgment.c.id == attempt.c.lodgment_id,
        lodgment.c.attempt_id == attempt.c.id,
        lodgment.c.state == State.SENDING,
    )
    return (
        sa.select(attempt)
        .where(attempt.c.id >= low, attempt.c.id < high, attempt.c.finished_at.is_(None), ~at_it)
        .order_by(attempt.c.id)
        .limit(_limit())
    )
