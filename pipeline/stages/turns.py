"""Whose turn it is in a lane: how long to wait for one's own, and who goes on when one is final."""

from collections.abc import Collection
from datetime import datetime

from pipeline.ledger import lanes, lodgments
from pipeline.ledger.session import Tx
from pipeline.lodgment.lodgment import LANE_TURN, Lodgment, Reason
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


_NOT_YET = Reason(LANE_TURN, "An earlier lodgment with the same order key is not final yet; this one follows it.")
