"""What a broker that is gone took with it, read off the ledger; and which of a producer's jobs the ledger knows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger import waiting_jobs
from pipeline.ledger.batch import Dialect, among, encode
from pipeline.ledger.lodgment_rows import COLUMNS, lodgment_of
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import HELD, attempt, lodgment, quarantine
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.shares import SHARE_TURN
from pipeline.lodgment.states import NEXT_STEP, State

_STEPS = sorted(NEXT_STEP)


@dataclass(frozen=True, slots=True)
class OpenState:
    """How many lodgments are in one state; `answered` of those that are being sent have their reply in the ledger."""

    state: State
    count: int
    oldest: datetime
    earliest_due_date: date | None
    answered: int


@dataclass(frozen=True, slots=True)
class KnownJobs:
    """What the ledger says to a list of job ids. A refused job is in quarantine: pushed again as it is, it is refused
    again. What waits for its sender's turn is in `states` under the reason's code.
    """

    states: dict[str, int]
    refused: list[str]
    unknown: list[str]


async def open_states(tx: Tx) -> list[OpenState]:
    """Every lodgment that is not final, by state."""
    rows = await tx.connection.execute(_open_states())
    return [
        OpenState(State(row.state), row.number, row.oldest, row.earliest, int(row.answered or 0))
        for row in sorted(rows, key=lambda row: list(State).index(State(row.state)))
    ]


async def carried_by_messages(tx: Tx) -> list[UUID]:
    """Lodgments that go on only when a message comes: those in a step's hands, and those whose reply is unread.

    Those with the nearest due date first, then the oldest.
    """
    return list((await tx.connection.execute(_carried())).scalars())


async def not_final(tx: Tx) -> list[UUID]:
    """Every lodgment that is not final, in the same order."""
    return list((await tx.connection.execute(_not_final())).scalars())


async def lock(tx: Tx, ids: Collection[UUID]) -> list[Lodgment]:
    """Of these, what is still carried by messages, locked; on PostgreSQL without what somebody works on right now."""
    rows = await tx.connection.execute(_lock(tx.dialect), {"keys": encode(ids)})
    return [lodgment_of(row) for row in rows]


async def known(tx: Tx, job_ids: Sequence[str]) -> KnownJobs:
    """Which of these jobs were taken in, were refused, or never came here; the last two in the order given."""
    keys = {"keys": encode(job_ids)}
    found = {row.job_id: row.state for row in await tx.connection.execute(_known(tx.dialect), keys)}
    refused = set((await tx.connection.execute(_refused(tx.dialect), keys)).scalars())
    states: dict[str, int] = {}
    for state in found.values():
        states[state] = states.get(state, 0) + 1
    waiting = await waiting_jobs.known(tx, [one for one in job_ids if one not in found])
    if waiting:
        states[SHARE_TURN] = len(waiting)
    missing = [one for one in job_ids if one not in found and one not in waiting]
    return KnownJobs(states, [one for one in missing if one in refused], [one for one in missing if one not in refused])


def _first_the_nearest() -> tuple[sa.ColumnElement[Any], ...]:
    return lodgment.c.due_date.is_(None), lodgment.c.due_date, lodgment.c.id


def _answered() -> sa.ColumnElement[bool]:
    return sa.exists().where(attempt.c.id == lodgment.c.attempt_id, attempt.c.finished_at.is_not(None))


def _by_message() -> sa.ColumnElement[bool]:
    return sa.and_(
        lodgment.c.due_at.is_not(None),
        sa.or_(lodgment.c.state.in_(_STEPS), sa.and_(lodgment.c.state == State.SENDING, _answered())),
    )


@cache
def _open_states() -> sa.Select[Any]:
    answered = sa.case((sa.and_(lodgment.c.state == State.SENDING, _answered()), 1), else_=0)
    shown = (lodgment.c.state, lodgment.c.received_at, lodgment.c.due_date, answered.label("answered"))
    # Two parts, because each has its index: what is due some day, and what is held.
    chosen = sa.select(*shown)
    rows = sa.union_all(chosen.where(lodgment.c.due_at.is_not(None)), chosen.where(HELD)).subquery().c
    return sa.select(
        rows.state,
        sa.func.count().label("number"),
        sa.func.min(rows.received_at).label("oldest"),
        sa.func.min(rows.due_date).label("earliest"),
        sa.func.sum(rows.answered).label("answered"),
    ).group_by(rows.state)


@cache
def _carried() -> sa.Select[Any]:
    return sa.select(lodgment.c.id).where(_by_message()).order_by(*_first_the_nearest())


@cache
def _not_final() -> sa.Select[Any]:
    is_open = sa.or_(lodgment.c.due_at.is_not(None), HELD)
    return sa.select(lodgment.c.id).where(is_open).order_by(*_first_the_nearest())


@cache
def _lock(dialect: Dialect) -> sa.Select[Any]:
    return (
        sa.select(*COLUMNS)
        .where(among(dialect, lodgment.c.id), _by_message())
        .order_by(*_first_the_nearest())
        .with_for_update(skip_locked=True, of=lodgment)
    )


@cache
def _known(dialect: Dialect) -> sa.Select[Any]:
    return sa.select(lodgment.c.job_id, lodgment.c.state).where(among(dialect, lodgment.c.job_id))


@cache
def _refused(dialect: Dialect) -> sa.Select[Any]:
    kept = quarantine.c.released_at.is_(None)
    return sa.select(quarantine.c.job_id).where(among(dialect, quarantine.c.job_id), kept).distinct()
