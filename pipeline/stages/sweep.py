"""sweep: find what the due times do not tell and nobody moves any more, put it right, and raise the alarm over it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from pipeline.broker.port import Outgoing
from pipeline.ledger import attempts, channel_states, holds, lodgments, sweeps
from pipeline.ledger.session import Tx
from pipeline.lodgment.breaker import Breaker, BreakerScope, BreakerState
from pipeline.lodgment.holds import Hold, HoldState, let_go
from pipeline.lodgment.lodgment import OPERATOR_RELEASED, Lodgment, Reason
from pipeline.lodgment.states import State
from pipeline.lodgment.sweeping import SweepKind, Swept, missing
from pipeline.stages.contract import WORKER_IS_LOST, Context, onward

log = structlog.get_logger(__name__)

_KINDS = (SweepKind.TOKEN_UNSERVED, SweepKind.HOLD_UNMOVED, SweepKind.ATTEMPT_OPEN)
_UNSERVED_AFTER = timedelta(minutes=2)
"""A token worker looks several times a second: a key that is due for so long has none."""
_STRIDE = timedelta(hours=6)
"""How much time one look at attempts covers at most, and how far the first one goes back."""


class Sweep:
    """The scheduler's fourth use case. It moves rows by guarded updates: two schedulers do not meet."""

    def __init__(self, context: Context, batch_size: int) -> None:
        self._context = context
        self._batch_size = batch_size

    async def look(self) -> list[Outgoing]:
        """Put right one batch of each kind; the messages for what goes on, to be published."""
        now = self._context.clock()
        swept: list[Swept] = []
        async with self._context.ledger.transaction() as tx:
            publications = await self._left_behind(tx, now, swept)
            publications += await self._without_token(tx, now, swept)
            await self._open_attempts(tx, now, swept)
            await sweeps.note(tx, _KINDS, now, swept)
        self._context.tell_swept(swept)
        return publications

    async def _without_token(self, tx: Tx, now: datetime, swept: list[Swept]) -> list[Outgoing]:
        """Wake who waits for a token that nobody will bring. For keys that nobody asks for, people are only told."""
        rows = await sweeps.waiting_for_nothing(tx, self._batch_size)
        due_at = now + self._context.timing.stuck_after
        moves = [(row, row.moved(row.resume or State.RECEIVED, due_at=due_at, reason=row.reason)) for row in rows]
        won = await lodgments.move(tx, moves)
        moved = [row for row in rows if row.id in won]
        before = now - _UNSERVED_AFTER
        of_sts, refused = await _breakers(tx)
        served = any(one.state is BreakerState.OPEN or (one.allowed_at or before) > before for one in of_sts)
        count, since = len(moved), [row.received_at for row in moved]
        if not served:
            keys = await sweeps.unserved(tx, before, refused)
            count += keys.count
            since += [keys.since] if keys.since is not None else []
        if count:
            swept.append(Swept(SweepKind.TOKEN_UNSERVED, count, min(since)))
        return [onward(after) for _, after in moves if after.id in won]

    async def _left_behind(self, tx: Tx, now: datetime, swept: list[Swept]) -> list[Outgoing]:
        """Let go what an ended hold still keeps, and see that a released hold has somebody who goes first."""
        left = await sweeps.held_by_an_ended_hold(tx, self._batch_size)
        messages = await self._let_go(tx, left, now, "Its hold has ended.")
        since = [row.received_at for row in left]
        for hold_id, state in await sweeps.forsaken_holds(tx, self._batch_size):
            hold = await holds.load(tx, hold_id)
            if hold is not None:
                messages += await self._tried_again(tx, hold, state, now)
                since.append(hold.released_at or hold.since)
        if since:
            swept.append(Swept(SweepKind.HOLD_UNMOVED, len(since), min(since)))
        return messages

    async def _tried_again(self, tx: Tx, hold: Hold, first: State, now: datetime) -> list[Outgoing]:
        """A hold whose first lodgment says nothing any more. One that is held stands under another hold, or in a
        person's hands: the others would meet the same, so the hold stands again until it is released once more.
        """
        following = [] if first is State.HELD else await holds.held_by(tx, hold.id, 1)
        if first is State.HELD:
            after = replace(hold, state=HoldState.STANDING, canary_id=None)
        elif following:
            after = replace(hold, canary_id=following[0].id)
        else:
            after = replace(hold, state=HoldState.ENDED, canary_id=None)
        await holds.change(tx, [after])
        log.info("hold.settled", hold=str(hold.id), state=after.state, code=hold.code, scope=hold.reach.scope)
        return await self._let_go(tx, following, now, f"Released by {hold.released_by}; it goes first.")

    async def _let_go(self, tx: Tx, rows: list[Lodgment], now: datetime, text: str) -> list[Outgoing]:
        due_at = now + self._context.timing.stuck_after
        reason = Reason(OPERATOR_RELEASED, text)
        moves = [(row, replace(let_go(row, now, reason), due_at=due_at)) for row in rows]
        won = await lodgments.move(tx, moves)
        return [onward(after) for _, after in moves if after.id in won]

    async def _open_attempts(self, tx: Tx, now: datetime, swept: list[Swept]) -> None:
        """Complete attempts whose lodgment went on without them, as lost; each stretch of time is looked at once.

        An attempt that its lodgment still stands at is the lease's business.
        """
        kind = SweepKind.ATTEMPT_OPEN
        noted = (await sweeps.notes(tx)).get(kind)
        since = (noted.looked_until if noted is not None else None) or now - _STRIDE
        # Twice the lease, so that a worker which lost its lease and lives has brought its reply.
        until = min(now - 2 * self._context.timing.lease, since + _STRIDE)
        if until <= since:
            return
        found = await sweeps.open_attempts(tx, since, until, self._batch_size)
        if len(found) == self._batch_size:
            until = found[-1].started_at
        await attempts.finish(tx, [replace(one, finished_at=now, failure=WORKER_IS_LOST) for one in found])
        await sweeps.looked_until(tx, kind, until)
        if found:
            swept.append(Swept(kind, len(found), min(one.started_at for one in found)))


class SweepWatch:
    """The watch over the sweeps themselves, in every worker: without a scheduler nobody else would tell."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._since = context.clock()
        self._told = False

    async def look(self) -> bool:
        """Set the gauges; log once when the sweeps stop, and once when they are back."""
        now = self._context.clock()
        async with self._context.ledger.transaction(read_only=True) as tx:
            noted = await sweeps.notes(tx)
        last: Mapping[SweepKind, datetime] = {kind: one.last_run_at for kind, one in noted.items()}
        ages = {kind: (now - last.get(kind, self._since)).total_seconds() for kind in SweepKind}
        self._context.metrics.sweep_ages(ages)
        gone = missing(last, self._since, now)
        if gone and not self._told:
            log.error("sweep.missing", kinds=sorted(gone), since=min(gone.values()).isoformat())
        elif self._told and not gone:
            log.info("sweep.back")
        self._told = bool(gone)
        return False


async def _breakers(tx: Tx) -> tuple[list[Breaker], set[str]]:
    """Those before token services, and the credentials that stand refused."""
    found = await channel_states.all_(tx)
    refused = {
        name for scope, name, one in found if scope is BreakerScope.CREDENTIAL and one.state is not BreakerState.CLOSED
    }
    return [one for scope, _, one in found if scope is BreakerScope.STS], refused
