"""watch: tell people, once, when an agency is late or a due date comes near, and count what is open."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog

from pipeline.broker.messages import EventReason, warning_event
from pipeline.broker.port import Outgoing
from pipeline.ledger import doors, holds, reports, watch
from pipeline.lodgment.deadlines import Nearness
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.watching import Look, look
from pipeline.stages.contract import Context
from pipeline.telemetry import Metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Warned:
    """A lodgment whose due date is near, and the event that says so."""

    row: Lodgment
    nearness: Nearness
    event: Outgoing


class Watch:
    """The scheduler's second use case: it changes nothing of where a lodgment is."""

    def __init__(self, context: Context, metrics: Metrics, batch_size: int) -> None:
        self._context = context
        self._metrics = metrics
        self._batch_size = batch_size

    async def look(self) -> bool:
        """Look at one batch of those whose time has come; whether there may be more."""
        now = self._context.clock()
        async with self._context.ledger.transaction() as tx:
            due = await watch.due(tx, now, self._batch_size)
            found = [(one, self._look(one, now)) for one in due]
            await watch.looked(tx, [(one.lodgment.id, seen.again_at, seen.tell or one.told) for one, seen in found])
        for one, seen in found:
            if seen.tell is not None:
                row = one.lodgment
                self._metrics.warned(row.channel, seen.tell)
                log.warning(
                    "watch.late", lodgment=str(row.id), code=seen.tell, state=row.state, sent_at=str(row.sent_at)
                )
        return len(due) >= self._batch_size

    async def near_due(self) -> list[Warned]:
        """Lodgments that are not final although their due date is near, and of whom nobody was told so much yet: one
        batch. Publish their events, then call `told`: a crash in between only tells it twice.
        """
        now, found = self._context.clock(), dict[UUID, Warned]()
        async with self._context.ledger.transaction(read_only=True) as tx:
            for nearness in reversed(Nearness):
                until = self._context.deadlines.until(nearness, now)
                for row in await watch.near_due(tx, nearness, until, self._batch_size):
                    if row.id not in found:
                        reason = _of_deadline(row, nearness)
                        found[row.id] = Warned(row, nearness, warning_event(row, reason, now))
        return list(found.values())

    async def told(self, warned: Sequence[Warned]) -> None:
        """Note that these were told of, and log what no other scheduler has logged."""
        new: set[UUID] = set()
        async with self._context.ledger.transaction() as tx:
            for nearness in Nearness:
                ids = [one.row.id for one in warned if one.nearness is nearness]
                new |= await watch.near_told(tx, ids, nearness)
        for one in warned:
            if one.row.id in new:
                row = one.row
                self._metrics.warned(row.channel, one.nearness)
                code = None if row.reason is None else row.reason.code
                log.warning(
                    "watch.due",
                    lodgment=str(row.id),
                    code=one.nearness,
                    state=row.state,
                    reason=code,
                    due_date=str(row.due_date),
                )

    async def count(self) -> None:
        """Set the gauges of what is open, late and held."""
        now = self._context.clock()
        async with self._context.ledger.transaction(read_only=True) as tx:
            states = await reports.state_counts(tx, now)
            late = await watch.late(tx)
            standing = await holds.by_scope(tx)
            near = await watch.near(tx, self._context.deadlines.until(Nearness.SOON, now))
            crowds = await doors.crowds(tx)
        self._metrics.standing(
            [(one.channel, one.state, one.count, (now - one.oldest).total_seconds()) for one in states],
            [(one.channel, one.lateness, one.count) for one in late]
            + [(one.channel, one.nearness, one.count) for one in near],
            standing.items(),
        )
        self._metrics.at_doors((one.door.name, one.count) for one in crowds)

    def _look(self, one: watch.Watched, now: datetime) -> Look:
        row = one.lodgment
        return look(row, one.told, self._context.channels[row.channel].policy(row.service, row.action), now)


_SAID = {
    Nearness.SOON: "is near",
    Nearness.LAST: "is very near",
    Nearness.MISSED: "is over",
}


def _of_deadline(row: Lodgment, nearness: Nearness) -> EventReason:
    because = "" if row.reason is None else f" ({row.reason.code}: {row.reason.text})"
    text = f"The due date {row.due_date} {_SAID[nearness]}, and the lodgment is {row.state}{because}."
    return EventReason(code=nearness, text=text, who=Party.NOBODY if row.reason is None else row.reason.who)
