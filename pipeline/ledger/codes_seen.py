"""Which codes the agencies have said, how often, and where one can be looked at: what a table of explanations lacks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger.session import Tx
from pipeline.ledger.tables import hold, lodgment, message_event
from pipeline.lodgment.references import earliest_id
from pipeline.lodgment.states import FINAL


class Heard(StrEnum):
    """Where a code was met."""

    EVENT = "event"
    """A message event of an outcome."""
    REASON = "reason"
    """Why a lodgment that is not final is where it is."""
    HOLD = "hold"
    """Why something was held that stops more than one lodgment."""


@dataclass(frozen=True, slots=True)
class CodeSeen:
    """A code of one channel. `example` is the latest lodgment that met it, None where only a hold is left."""

    code: str
    channel: str
    heard: Heard
    count: int
    first: datetime
    last: datetime
    example: UUID | None


async def codes_seen(tx: Tx, since: datetime) -> Sequence[CodeSeen]:
    """Every code in message events, in reasons of open lodgments and in holds since `since`, the most first.

    A reason has no time of its own: it counts from when its lodgment was received to when it was last sent.
    """
    bounds = {"low": earliest_id(since), "since": since}
    seen = []
    for heard, statement in ((Heard.EVENT, _events()), (Heard.REASON, _reasons()), (Heard.HOLD, _holds())):
        for row in await tx.connection.execute(statement, bounds):
            example = None if row.example is None else UUID(row.example)
            seen.append(CodeSeen(row.code, row.channel, heard, row.number, row.first_at, row.last_at, example))
    return sorted(seen, key=lambda one: (-one.count, one.code, one.channel, one.heard))


def _example(column: sa.ColumnElement[Any]) -> sa.Label[Any]:
    # PostgreSQL below 18 has no max() of a UUID; as text they are ordered by time as well
    return sa.func.max(sa.cast(column, sa.Text)).label("example")


def _span(first: sa.ColumnElement[Any], last: sa.ColumnElement[Any]) -> tuple[sa.Label[Any], sa.Label[Any]]:
    return sa.func.min(first).label("first_at"), sa.func.max(last).label("last_at")


def _number() -> sa.Label[int]:
    return sa.func.count().label("number")


@cache
def _events() -> sa.Select[Any]:
    shown = (message_event.c.code, lodgment.c.channel)
    return (
        sa.select(
            *shown,
            _number(),
            *_span(message_event.c.recorded_at, message_event.c.recorded_at),
            _example(message_event.c.lodgment_id),
        )
        .join_from(message_event, lodgment, lodgment.c.id == message_event.c.lodgment_id)
        .where(message_event.c.id >= sa.bindparam("low", type_=message_event.c.id.type))
        .group_by(*shown)
    )


@cache
def _reasons() -> sa.Select[Any]:
    shown = (lodgment.c.reason_code.label("code"), lodgment.c.channel)
    latest = sa.func.coalesce(lodgment.c.sent_at, lodgment.c.received_at, type_=lodgment.c.received_at.type)
    return (
        sa.select(*shown, _number(), *_span(lodgment.c.received_at, latest), _example(lodgment.c.id))
        .where(
            lodgment.c.id >= sa.bindparam("low", type_=lodgment.c.id.type),
            lodgment.c.reason_code.is_not(None),
            lodgment.c.state.not_in(sorted(FINAL)),
        )
        .group_by(lodgment.c.reason_code, lodgment.c.channel)
    )


@cache
def _holds() -> sa.Select[Any]:
    shown = (hold.c.code, hold.c.channel)
    # One held row for each hold is example enough; those that were let go have none.
    held = (
        sa.select(lodgment.c.hold_id, sa.func.max(sa.cast(lodgment.c.id, sa.Text)).label("held"))
        .where(lodgment.c.hold_id.is_not(None))
        .group_by(lodgment.c.hold_id)
        .subquery()
    )
    return (
        sa.select(
            *shown,
            _number(),
            *_span(hold.c.since, hold.c.since),
            sa.func.max(held.c.held).label("example"),
        )
        .join_from(hold, held, held.c.hold_id == hold.c.id, isouter=True)
        .where(hold.c.since >= sa.bindparam("since", type_=hold.c.since.type))
        .group_by(*shown)
    )
