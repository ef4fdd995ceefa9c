"""reopen: after an outage, let through who waits before an agency's door: one, ten, a hundred, then all."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from pipeline.broker.port import Outgoing
from pipeline.ledger import channel_states, doors, lodgments
from pipeline.ledger.session import Tx
from pipeline.lodgment import breaker as breakers
from pipeline.lodgment.breaker import Breaker, BreakerScope, BreakerState, may_probe
from pipeline.lodgment.deadlines import least_first
from pipeline.lodgment.doors import Door
from pipeline.lodgment.lodgment import Lodgment
from pipeline.stages.breakers import tell
from pipeline.stages.contract import Context, onward
from pipeline.stages.doors import UNLIMITED, door_of, slack_of
from pipeline.stages.turns import woken

log = structlog.get_logger(__name__)

_CANARIES = 50
"""Of so many employers with the least slack the one's goes first that has waited in vain the least often."""
_ON_THE_WAY = timedelta(seconds=3)
_SHUT = frozenset({BreakerState.OPEN, BreakerState.PROBING})


@dataclass(frozen=True, slots=True)
class _Let:
    """In which step of a ramp this process let through the last ones, when, and how many are spent by then."""

    step_since: datetime | None
    at: datetime
    until: int


class Reopen:
    """The scheduler's third use case. Of all schedulers, one lets the canary through: the breaker's row is locked."""

    def __init__(self, context: Context, batch_size: int) -> None:
        self._context = context
        self._batch_size = batch_size
        self._let: dict[str, _Let] = {}
        """By the door's name."""

    async def look(self) -> bool:
        """Whether anybody waits, or a door is not open: only then there is something to do."""
        async with self._context.ledger.transaction(read_only=True) as tx:
            known = await channel_states.every(tx, BreakerScope.CHANNEL)
            shut = any(one.state is not BreakerState.CLOSED for one in known.values())
            return shut or (bool(known) and await doors.any_waits(tx))

    async def let_through(self, room: int) -> list[Outgoing]:
        """The messages for up to `room` lodgments whose door has opened, or that go first to see whether it does."""
        async with self._context.ledger.transaction(read_only=True) as tx:
            known = await channel_states.every(tx, BreakerScope.CHANNEL)
        publications: list[Outgoing] = []
        now = self._context.clock()
        for name, breaker in sorted(known.items()):
            door = Door.named(name)
            whole = known.get(door.whole.name, Breaker())
            if door.channel not in self._context.channels or (door.service and whole.state is not BreakerState.CLOSED):
                continue
            if breaker.state in _SHUT and not may_probe(breaker, now):
                continue
            shut = {other for other, one in known.items() if one.state is not BreakerState.CLOSED and other != name}
            if breaker.state is BreakerState.CLOSED and any(Door.named(other).whole == door for other in shut):
                continue  # who waits in this channel waits at one of those
            publications += await self._let_through(door, shut, min(room - len(publications), self._batch_size))
        if publications:
            log.info("reopen.completed", published=len(publications))
        return publications

    async def _let_through(self, door: Door, shut: set[str], room: int) -> list[Outgoing]:
        now = self._context.clock()
        policy = self._context.breakers.of(door)
        async with self._context.ledger.transaction() as tx:
            before = await channel_states.lock(tx, BreakerScope.CHANNEL, door.name)
            admission = breakers.admit(before, policy, UNLIMITED, now, 0)
            after = admission.breaker
            if after.state is BreakerState.RAMPING:
                room = min(room, admission.count - self._let_in_step(door, after))
            waiting = await self._waiting(tx, door, shut, room)
            if after.state in _SHUT:
                # Not the same one again and again: it could be the one that the agency stumbles over, or its employer.
                canaries = _one_of_each_employer(waiting)[:_CANARIES]
                waiting = sorted(canaries, key=lambda row: row.tally.waits)[: admission.count]
            moved = await self._wake(tx, waiting)
            if moved and after.state in _SHUT:
                after = replace(breakers.spent(after, policy, now, 1), canary_id=moved[0].id)
            elif moved and after.state is BreakerState.RAMPING:
                under_way = self._let_in_step(door, after) + len(moved)
                self._let[door.name] = _Let(after.step_since, now, after.step_spent + under_way)
            if after != before:
                await channel_states.write(tx, BreakerScope.CHANNEL, door.name, after)
        tell(self._context.metrics, BreakerScope.CHANNEL, door.name, before, after)
        return [onward(row) for row in moved]

    def _let_in_step(self, door: Door, breaker: Breaker) -> int:
        """How many were let through and have not been sent yet: who finds the step used up would only wait again. After
        a while they count no more: whoever was held up on the way must not hold up the ramp.
        """
        let = self._let.get(door.name)
        if let is None or let.step_since != breaker.step_since or self._context.clock() >= let.at + _ON_THE_WAY:
            return 0
        return max(0, let.until - breaker.step_spent)

    async def _waiting(self, tx: Tx, door: Door, shut: set[str], room: int) -> Sequence[Lodgment]:
        if room <= 0:
            return ()
        usual = self._context.channels[door.channel].gateway() == door.gateway
        rows = await doors.waiting(tx, door, usual=usual, limit=room)
        now = self._context.clock()
        through = [row for row in rows if door_of(self._context, row).name not in shut]
        return least_first(through, lambda row: slack_of(self._context, row, now))

    async def _wake(self, tx: Tx, rows: Sequence[Lodgment]) -> list[Lodgment]:
        moves = [(row, woken(self._context, row)) for row in rows]
        won = await lodgments.move(tx, moves)
        return [after for _, after in moves if after.id in won]


def _one_of_each_employer(rows: Sequence[Lodgment]) -> list[Lodgment]:
    """The first of each, in the order of all."""
    first: dict[str, Lodgment] = {}
    for row in rows:
        first.setdefault(row.party_abn, row)
    return list(first.values())
