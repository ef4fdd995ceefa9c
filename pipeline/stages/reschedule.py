"""reschedule: put back what is due: retries, polls, releases, and whatever a step should have moved long ago."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import structlog

from pipeline.broker.messages import outcome_event
from pipeline.broker.port import Outgoing
from pipeline.ledger import attempts, holds, lanes, lodgments, operators, sweeps
from pipeline.ledger.session import Tx
from pipeline.lodgment.deadlines import least_first
from pipeline.lodgment.holds import HoldState, let_go
from pipeline.lodgment.lodgment import (
    LANE_TURN,
    OPERATOR_RELEASED,
    Lodgment,
    Reason,
)
from pipeline.lodgment.states import NEXT_STEP, WAITING, State, Step
from pipeline.lodgment.sweeping import NOTED_EVERY, SweepKind, Swept
from pipeline.stages.contract import WORKER_IS_LOST, Context, onward, to_step
from pipeline.stages.doors import slack_of
from pipeline.stages.turns import look_again_at, woken

log = structlog.get_logger(__name__)

_HOLDS_AT_ONCE = 10
_KINDS = (SweepKind.LEASE_OVER, SweepKind.MESSAGE_LOST, SweepKind.QUARANTINE_UNHELD)
"""What the due times tell; the other kinds are looked for by `stages.sweep`."""


class Reschedule:
    """The scheduler's use case: it starts all work that no delivery starts, from rows that are due."""

    def __init__(self, context: Context, batch_size: int) -> None:
        self._context = context
        self._batch_size = batch_size
        self._noted_at: datetime | None = None

    async def sweep(self) -> list[Outgoing]:
        """The messages for one batch of due lodgments; publish them. Empty when nothing is due.

        A crash before they are published costs time only: each row stays due, a little later.
        """
        now = self._context.clock()
        async with self._context.ledger.transaction() as tx:
            publications = await self._let_go(tx)
            due = await lodgments.due(tx, now, self._batch_size)
            waiting = [row for row in due if row.state in WAITING]
            blocked = await self._still_blocked(tx, waiting)
            publications += await self._wake(tx, [row for row in waiting if row.id not in blocked])
            repeated, stuck = await self._repeat(tx, [row for row in due if row.state in NEXT_STEP])
            taken_over, lost = await self._take_over(tx, [row for row in due if row.state is State.SENDING])
            publications += repeated + taken_over
            swept = _together(stuck + lost)
            await self._note(tx, now, swept)
        self._context.tell_swept(swept)
        if due or publications:
            log.info("reschedule.completed", due=len(due), published=len(publications))
        return publications

    async def _let_go(self, tx: Tx) -> list[Outgoing]:
        """Let go what ended holds keep: as many at a time as are swept."""
        now = self._context.clock()
        publications = []
        for hold in await holds.ending(tx, _HOLDS_AT_ONCE):
            rows = await holds.held_by(tx, hold.id, self._batch_size)
            reason = Reason(OPERATOR_RELEASED, f"Released by {hold.released_by}, and the agency took the first one.")
            due_at = now + self._context.timing.stuck_after
            moves = [(row, replace(let_go(row, now, reason), due_at=due_at)) for row in rows]
            won = await lodgments.move(tx, moves)
            publications += [onward(after) for _, after in moves if after.id in won]
            if len(rows) < self._batch_size:
                await holds.change(tx, [replace(hold, state=HoldState.ENDED)])
            log.info("hold.let_go", hold=str(hold.id), code=hold.code, lodgments=len(won))
        return publications

    async def _still_blocked(self, tx: Tx, waiting: Sequence[Lodgment]) -> set[UUID]:
        """Who looked whether its turn has come, and finds that it has not: it sleeps on where it is."""
        asking = [row for row in waiting if row.reason is not None and row.reason.code == LANE_TURN]
        blocked = await lanes.blocked(tx, [row.id for row in asking])
        later: dict[int, list[UUID]] = {}
        for row_id, before in blocked.items():
            later.setdefault(before, []).append(row_id)
        for before, ids in later.items():
            await lodgments.postpone(tx, ids, look_again_at(self._context, before))
        return set(blocked)

    async def _wake(self, tx: Tx, due: Sequence[Lodgment]) -> list[Outgoing]:
        now = self._context.clock()
        first = least_first(due, lambda row: slack_of(self._context, row, now))
        moves = [(row, woken(self._context, row)) for row in first]
        won = await lodgments.move(tx, moves)
        return [onward(after) for _, after in moves if after.id in won]

    async def _repeat(self, tx: Tx, stuck: Sequence[Lodgment]) -> tuple[list[Outgoing], list[Swept]]:
        """A step did not move these in time: their messages may be lost. Handling one twice is harmless.
        Those that a person just released have none yet.

        Where the message is in quarantine, handling it again would only end there again: these are held.
        """
        if not stuck:
            return [], []
        now = self._context.clock()
        reasons = await sweeps.quarantined(tx, [row.id for row in stuck])
        moves = [(row, row.moved(State.HELD, reason=reasons[row.id])) for row in stuck if row.id in reasons]
        won = await lodgments.move(tx, moves)
        held = [after for _, after in moves if after.id in won]
        lost = [row for row in stuck if row.id not in reasons]
        await lodgments.postpone(tx, [row.id for row in lost], now + self._context.timing.stuck_after)
        fresh = await self._just_released(tx, lost)
        swept = self._swept(SweepKind.MESSAGE_LOST, [row for row in lost if row.id not in fresh]) + self._swept(
            SweepKind.QUARANTINE_UNHELD, [row for row, after in moves if after.id in won]
        )
        return [onward(row) for row in lost] + [outcome_event(row, (), now) for row in held], swept

    async def _just_released(self, tx: Tx, rows: Sequence[Lodgment]) -> set[UUID]:
        """Those that are due since a person released them: put back from here for the first time, nothing was lost."""
        due = {r.id: r.due_at for r in rows if r.reason is not None and r.reason.code == OPERATOR_RELEASED}
        released = await operators.released_at(tx, due.keys())
        return {row_id for row_id, at in released.items() if (since := due[row_id]) is not None and since <= at}

    async def _take_over(self, tx: Tx, sending: Sequence[Lodgment]) -> tuple[list[Outgoing], list[Swept]]:
        """Leases that ended: the reply is stored and only unread, or nobody will ever know what became of the bytes."""
        if not sending:
            return [], []
        now = self._context.clock()
        known = await attempts.load(tx, [row.attempt_id for row in sending if row.attempt_id is not None])
        lost = {
            attempt.lodgment_id: replace(attempt, finished_at=now, failure=WORKER_IS_LOST)
            for attempt in known.values()
            if attempt.finished_at is None
        }
        await attempts.finish(tx, list(lost.values()))
        for attempt in lost.values():
            log.warning("reschedule.worker_lost", lodgment=str(attempt.lodgment_id), attempt=attempt.number)
        await lodgments.postpone(tx, [row.id for row in sending], now + self._context.timing.stuck_after)
        swept = self._swept(SweepKind.LEASE_OVER, [row for row in sending if row.id in lost])
        swept += self._swept(SweepKind.MESSAGE_LOST, [row for row in sending if row.id not in lost])
        return [to_step(Step.RECORD, row, row.attempt_id) for row in sending], swept

    def _swept(self, kind: SweepKind, rows: Sequence[Lodgment]) -> list[Swept]:
        due = [row.due_at for row in rows if row.due_at is not None]
        return [Swept(kind, len(rows), min(due))] if due else []

    async def _note(self, tx: Tx, now: datetime, swept: Sequence[Swept]) -> None:
        """Note that these sweeps ran: always when they found something, else now and then."""
        if swept or self._noted_at is None or abs(now - self._noted_at) >= NOTED_EVERY:
            await sweeps.note(tx, _KINDS, now, swept)
            self._noted_at = now


def _together(swept: Sequence[Swept]) -> list[Swept]:
    """One for each kind."""
    by_kind: dict[SweepKind, Swept] = {}
    for one in swept:
        before = by_kind.get(one.kind, replace(one, count=0))
        by_kind[one.kind] = Swept(one.kind, before.count + one.count, min(before.oldest, one.oldest))
    return list(by_kind.values())
