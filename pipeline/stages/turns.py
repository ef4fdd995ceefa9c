"""Who goes on: in a lane, when the one before is final, and whatever has waited long enough."""

from collections.abc import Collection
from datetime import datetime

from pipeline.ledger import lanes, lodgments
from pipeline.ledger.session import Tx
from pipeline.lodgment.lodgment import LANE_TURN, OUTCOME_LATE, POLL_DUE, Lodgment, Reason
from pipeline.lodgment.states import FINAL, State
from pipeline.stages.contract import Context


def look_again_at(context: Context, before: int) -> datetime:
    """When a lodgment with so many before it looks by itself whether its turn has come: the one before it wakes it, so
    this is for the case that nobody does, and the further behind it stands the less often.
    """
    return context.clock() + context.timing.lane_check * before


def parked_for_turn(context: Context, row: Lodgment, before: int) -> Lodgment:
    """The lodgment, waiting for those before it in its lane."""
    return row.moved(State.PARKED, due_at=look_again_at(context, before), resume=State.SEALED, reason=_NOT_YET)


async def go_on(context: Context, tx: Tx, moved: Collection[Lodgment]) -> list[Lodgment]:
    """Wake whoever's turn has come because one of `moved` is final; their messages are to be published.

    The caller has the lanes locked since before it moved anything.
    """
    keys = lanes.keys_of([row for row in moved if row.state in FINAL])
    if not keys:
        return []
    due_at = context.clock() + context.timing.stuck_after
    moves = [
        (row, row.moved(row.resume or State.SEALED, due_at=due_at, reason=row.reason))
        for row in await lanes.next_turn(tx, keys)
    ]
    won = await lodgments.move(tx, moves)
    return [after for _, after in moves if after.id in won]


def woken(context: Context, row: Lodgment) -> Lodgment:
    """A waiting lodgment on its way again: where it says, or one step earlier when its token would not outlive another
    sending.
    """
    target = row.resume or State.RECEIVED
    soonest_end = context.clock() + context.timing.token_margin
    if target is State.SEALED and row.token_expires_at is not None and row.token_expires_at <= soonest_end:
        target = State.RECEIVED
    reason = row.reason
    if row.state is State.AWAITING and (reason is None or reason.code != OUTCOME_LATE):
        reason = Reason(POLL_DUE, "The agency is asked again for the outcome, under the same reference.")
    return row.moved(target, due_at=context.clock() + context.timing.stuck_after, reason=reason)


_NOT_YET = Reason(LANE_TURN, "An earlier lodgment with the same order key is not final yet; this one follows it.")
