"""A replay's list: frozen in one statement, with what was known of each lodgment and whether it may be replayed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pipeline.ledger.batch import Dialect
from pipeline.ledger.selections import meant
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import lodgment, replay_item
from pipeline.lodgment.replay import LEGAL, TURNS, Known, Mode
from pipeline.lodgment.replay_run import ItemState, Replay
from pipeline.lodgment.selection import Condition
from pipeline.lodgment.states import NEXT_STEP, State

_FROZEN = ("replay_id", "lodgment_id", "state", "known", "bytes_at_hand", "was_state", "was_code")
_OPEN = (ItemState.STARTED, ItemState.WAITING)


@dataclass(frozen=True, slots=True)
class Group:
    """How many lodgments of a plan are alike: what is known of them, and whether their bytes can be sent."""

    known: Known
    bytes_at_hand: bool
    state: ItemState
    count: int


async def freeze(
    tx: Tx,
    one: Replay,
    conditions: Sequence[Condition],
    job_ids: Collection[str] | None,
    good_until: datetime,
) -> None:
    """Freeze the list, in one statement; those that may not be replayed are on it too.

    `good_until`: a token that ends before is of no use. Of two plans in the same instant, one gets a lodgment.
    """
    rows = _frozen(tx.dialect, one, conditions, job_ids, good_until)
    await tx.connection.execute(rows)


async def groups(tx: Tx, replay_id: UUID) -> list[Group]:
    """What a replay holds, by what was known when the list was frozen; the most first."""
    rows = await tx.connection.execute(_groups(), {"of_replay": replay_id})
    return [Group(Known(r.known), bool(r.bytes_at_hand), ItemState(r.state), r.number) for r in rows]


def known_in_sql() -> sa.Case[str]:
    """`replay.known` in SQL."""
    table, state = lodgment.c, lodgment.c.state
    return sa.case(
        (state.in_((State.ACCEPTED, State.PARTIALLY_ACCEPTED)), _text(Known.LODGED)),
        (state == State.REJECTED, _text(Known.REJECTED)),
        (state == State.CANCELLED, _text(Known.WITHDRAWN)),
        (state.in_(sorted({*NEXT_STEP, State.SENDING})), _text(Known.UNDER_WAY)),
        (state == State.AWAITING, _text(Known.WITH_AGENCY)),
        (sa.and_(state == State.HELD, table.hold_id.is_not(None)), _text(Known.UNDER_HOLD)),
        (sa.and_(state == State.PARKED, table.reason_code.in_(sorted(TURNS))), _text(Known.WAITS_ITS_TURN)),
        (table.agency_reference.is_not(None), _text(Known.AGENCY_HAS_IT)),
        (state == State.UNKNOWN, _text(Known.UNSETTLED)),
        (table.sent_at.is_(None), _text(Known.NEVER_SENT)),
        else_=_text(Known.SENT_BEFORE),
    )


def _frozen(
    dialect: Dialect,
    one: Replay,
    conditions: Sequence[Condition],
    job_ids: Collection[str] | None,
    good_until: datetime,
) -> sa.Executable:
    other = replay_item.alias("other")
    elsewhere = sa.exists().where(other.c.lodgment_id == lodgment.c.id, other.c.state.in_(_OPEN))
    again = sa.exists().where(other.c.lodgment_id == lodgment.c.id, other.c.successor_id.is_not(None))
    fresh = sa.or_(lodgment.c.token_expires_at.is_(None), lodgment.c.token_expires_at > good_until)
    chosen = sa.select(
        lodgment.c.id,
        sa.case((elsewhere, _text(Known.CLAIMED)), (again, _text(Known.LODGED_AGAIN)), else_=known_in_sql()).label(
            "known"
        ),
        sa.and_(lodgment.c.envelope_id.is_not(None), lodgment.c.agency_reference.is_(None), fresh).label("at_hand"),
        lodgment.c.state,
        lodgment.c.reason_code,
    ).where(meant(dialect, conditions, job_ids))
    rows = chosen.subquery("chosen").c
    wish = Mode.SAME_REFERENCE if one.mode is Mode.SAFEST else one.mode
    legal: sa.ColumnElement[bool] = rows.known.in_(sorted(what for what, modes in LEGAL.items() if wish in modes))
    if wish is Mode.SAME_BYTES:
        legal = sa.and_(legal, rows.at_hand)
    values = sa.select(
        sa.literal(one.id, replay_item.c.replay_id.type),
        rows.id,
        sa.case((legal, _text(ItemState.WAITING)), else_=_text(ItemState.BARRED)),
        rows.known,
        rows.at_hand,
        rows.state,
        rows.reason_code,
    ).where(sa.true())
    insert = postgresql.insert if dialect is Dialect.POSTGRESQL else sqlite.insert
    return insert(replay_item).from_select(_FROZEN, values).on_conflict_do_nothing()


def _text(value: str) -> sa.ColumnElement[str]:
    return sa.literal(str(value), sa.Text)


@cache
def _groups() -> sa.Select[Any]:
    shown = (replay_item.c.known, replay_item.c.bytes_at_hand, replay_item.c.state)
    number = sa.func.count().label("number")
    return (
        sa.select(*shown, number)
        .where(replay_item.c.replay_id == sa.bindparam("of_replay", type_=replay_item.c.replay_id.type))
        .group_by(*shown)
        .order_by(sa.desc("number"), *shown)
    )
