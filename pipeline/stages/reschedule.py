"""reschedule: put back what is due: retries, polls, releases, and whatever a step should have moved long ago."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import structlog

from pipeline.broker.port import Outgoing
from pipeline.ledger import attempts, holds, lanes, lodgments, shares
from pipeline.ledger.session import Tx
from pipeline.lodgment.deadlines import least_first
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.holds import HoldState, let_go
from pipeline.lodgment.lodgment import (
    LANE_TURN,
    OPERATOR_RELEASED,
    WORKER_LOST,
    Lodgment,
    Reason,
)
from pipeline.lodgment.states import NEXT_STEP, WAITING, State, Step
from pipeline.stages.contract import Context, onward, to_step
from pipeline.stages.doors import slack_of
from pipeline.stages.turns import look_again_at, woken

log = structlog.get_logger(__name__)

_HOLDS_AT_ONCE = 10

_WORKER_LOST = Failure(
    FailureClass.UNKNOWN,
    WORKER_LOST,
    "",
    "The transport worker stopped while the request was under way. It is resubmitted under the same reference.",
    Party.NOBODY,
)


class Reschedule:
    """The scheduler's use case: it starts all work that no delivery starts, from rows that are due."""

    def __init__(self, context: Context, batch_size: int) -> None:
        self._context = context
        self._batch_size = batch_size

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
            publications += await self._repeat(tx, [row for row in due if row.state in NEXT_STEP])
            publications += await self._take_over(tx, [row for row in due if row.state is State.SENDING])
        if due or publications:
            log.info("reschedule.completed", due=len(due), published=len(publications))
        return publications

    async def call_forward(self, room: int) -> list[Outgoing]:
        """The messages for up to `room` lodgments that wait for their sender's turn, the earliest turn first."""
        async with self._context.ledger.transaction() as tx:
            publications = await self._wake(tx, await shares.next_turns(tx, min(room, self._batch_size)))
        if publications:
            log.info("reschedule.called_forward", published=len(publications), room=room)
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

    async def _repeat(self, tx: Tx, stuck: Sequence[Lodgment]) -> list[Outgoing]:
        """A step did not move these in time: their messages may be lost. Handling one twice is harmless."""
        if not stuck:
            return []
        log.warning("reschedule.stuck", lodgments=[str(row.id) for row in stuck[:10]], count=len(stuck))
        await lodgments.postpone(
            tx, [row.id for row in stuck], self._context.clock() + self._context.timing.stuck_after
        )
        return [onward(row) for row in stuck]

    async def _take_over(self, tx: Tx, sending: Sequence[Lodgment]) -> list[Outgoing]:
        """Leases that ended: the reply is stored and only unread, or nobody will ever know what became of the bytes."""
        if not sending:
            return []
        now = self._context.clock()
        known = await attempts.load(tx, [row.attempt_id for row in sending if row.attempt_id is not None])
        lost = [
            replace(attempt, finished_at=now, failure=_WORKER_LOST)
            for attempt in known.values()
            if attempt.finished_at is None
        ]
        await attempts.finish(tx, lost)
        for attempt in lost:
            log.warning("reschedule.worker_lost", lodgment=str(attempt.lodgment_id), attempt=attempt.number)
        await lodgments.postpone(tx, [row.id for row in sending], now + self._context.timing.stuck_after)
        return [to_step(Step.RECORD, row, row.attempt_id) for row in sending]
