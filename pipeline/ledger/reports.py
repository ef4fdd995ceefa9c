"""Questions of operators and analysts, each one statement that is bounded by an index or by a range of ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pipeline.ledger import attempts, holds, lane_history, lanes, lodgments, operators, outcomes, software_ids
from pipeline.ledger.holds import Standing
from pipeline.ledger.lodgments import JobDocument
from pipeline.ledger.operators import OperatorAction
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import HELD, lodgment, message_event
from pipeline.lodgment.lodgment import Attempt, Lodgment
from pipeline.lodgment.outcome import Attachment, MessageEvent, Severity
from pipeline.lodgment.references import earliest_id
from pipeline.lodgment.replacement import Verdict, judge
from pipeline.lodgment.software_id import SoftwareId
from pipeline.lodgment.states import FINAL, State
from pipeline.lodgment.subscription import RegisteredId


@dataclass(frozen=True, slots=True)
class StateCount:
    """How many lodgments of one channel and environment are in one state, and when the oldest of them was received."""

    channel: str
    environment: str
    state: State
    count: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class OutcomeCount:
    """How many lodgments are in one state for one reason."""

    state: State
    reason_code: str | None
    count: int


@dataclass(frozen=True, slots=True)
class RuleCount:
    """How often one business rule spoke."""

    code: str
    severity: Severity
    count: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """Everything about one lodgment, for `explain`."""

    lodgment: Lodgment
    document: JobDocument
    attempts: Sequence[Attempt]
    events: Sequence[MessageEvent]
    attachments: Sequence[Attachment]
    actions: Sequence[OperatorAction]
    software_id: RegisteredId | None
    """The lodgment's software id as it is registered now; None if it has none, or one that is not registered."""
    waits_for: Lodgment | None
    """Who has the lodgment's lane."""
    hold: Standing | None
    """What keeps it, and how many others."""
    replacement: Verdict | None
    """What a full file replacement replaces."""


async def state_counts(tx: Tx, since: datetime) -> list[StateCount]:
    """Every lodgment that is not final, and the final ones received since `since`, by where it goes and its state."""
    rows = await tx.connection.execute(_state_counts(), _received(since))
    return [StateCount(row.channel, row.environment, State(row.state), row.number, row.oldest) for row in rows]


async def outcome_summary(tx: Tx, since: datetime, until: datetime) -> list[OutcomeCount]:
    """Lodgments received from `since` until before `until`, by state and reason; the most first."""
    rows = await tx.connection.execute(_outcome_summary(), _received(since, until))
    return [OutcomeCount(State(row.state), row.reason_code, row.number) for row in rows]


async def events_by_rule(tx: Tx, since: datetime, until: datetime) -> list[RuleCount]:
    """Message events of attempts from `since` until before `until`, by code and severity; the most first."""
    rows = await tx.connection.execute(_events_by_rule(), _received(since, until))
    return [RuleCount(row.code, Severity(row.severity), row.number) for row in rows]


async def timeline(tx: Tx, lodgment_id: UUID) -> Timeline | None:
    """All that the ledger knows of one lodgment, or None."""
    found = (await lodgments.load(tx, [lodgment_id])).get(lodgment_id)
    document = await lodgments.document(tx, lodgment_id)
    if found is None or document is None:
        return None
    return Timeline(
        lodgment=found,
        document=document,
        attempts=await attempts.of(tx, lodgment_id),
        events=await outcomes.of(tx, lodgment_id),
        attachments=await outcomes.attachments_of(tx, lodgment_id),
        actions=await operators.of(tx, lodgment_id),
        software_id=await registered_id(tx, found),
        waits_for=None if found.state in FINAL else await lanes.holder(tx, found),
        hold=await _hold_over(tx, found),
        replacement=await _replacement(tx, found),
    )


async def registered_id(tx: Tx, of: Lodgment) -> RegisteredId | None:
    """The lodgment's software id as it is registered now; None if it has none, or one that is not registered."""
    if of.software_id is None:
        return None
    found = SoftwareId(of.software_id)
    return (await software_ids.by_id(tx, [found])).get(found)


async def _hold_over(tx: Tx, row: Lodgment) -> Standing | None:
    hold = None if row.hold_id is None else await holds.load(tx, row.hold_id)
    return None if hold is None else Standing(hold, await holds.count(tx, hold.id))


async def _replacement(tx: Tx, row: Lodgment) -> Verdict | None:
    if not row.facts.get("replaces"):
        return None
    return judge(row, (await lane_history.before(tx, [row]))[row.id])


def _received(since: datetime, until: datetime | None = None) -> dict[str, object]:
    """Bounds on ids: they begin with their time, so the primary key is the index by date."""
    bounds: dict[str, object] = {"low": earliest_id(since)}
    if until is not None:
        bounds["high"] = earliest_id(until)
    return bounds


def _low(table: sa.Table) -> sa.ColumnElement[bool]:
    return table.c.id >= sa.bindparam("low", type_=table.c.id.type)


def _high(table: sa.Table) -> sa.ColumnElement[bool]:
    return table.c.id < sa.bindparam("high", type_=table.c.id.type)


def _number() -> sa.Label[int]:
    return sa.func.count().label("number")


@cache
def _state_counts() -> sa.Select[Any]:
    # Three parts, because each has its index: what is due some day, what is held, and the latest that are final.
    shown = (lodgment.c.channel, lodgment.c.environment, lodgment.c.state)
    counted = sa.select(*shown, _number(), sa.func.min(lodgment.c.received_at).label("oldest")).group_by(*shown)
    parts = sa.union_all(
        counted.where(lodgment.c.due_at.is_not(None)),
        counted.where(HELD),
        counted.where(lodgment.c.due_at.is_(None), lodgment.c.state != State.HELD, _low(lodgment)),
    ).subquery()
    return sa.select(parts).order_by(parts.c.channel, parts.c.environment, parts.c.state)


@cache
def _outcome_summary() -> sa.Select[Any]:
    shown = (lodgment.c.state, lodgment.c.reason_code)
    return (
        sa.select(*shown, _number())
        .where(_low(lodgment), _high(lodgment))
        .group_by(*shown)
        .order_by(sa.desc("number"), *shown)
    )


@cache
def _events_by_rule() -> sa.Select[Any]:
    shown = (message_event.c.code, message_event.c.severity)
    return (
        sa.select(*shown, _number())
        .where(_low(message_event), _high(message_event))
        .group_by(*shown)
        .order_by(sa.desc("number"), *shown)
    )
