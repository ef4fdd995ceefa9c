"""The scheduler worker: wakes what is due, keeps what could not be handled, keeps house. Several may run."""

from collections.abc import Awaitable, Callable, Sequence

from pipeline.bootstrap import Parts
from pipeline.broker.port import Outgoing, later
from pipeline.broker.topology import STEPS
from pipeline.ledger import partitions, replays, shares
from pipeline.lodgment.states import NEXT_STEP, Step
from pipeline.policies import replay_policy
from pipeline.runner import Activity, Pace, Periodic, Runner
from pipeline.stages.quarantine import Quarantine
from pipeline.stages.reopen import Reopen
from pipeline.stages.replay import ReplayStage
from pipeline.stages.reschedule import Reschedule
from pipeline.stages.sweep import Sweep
from pipeline.stages.watch import Watch

SWEEP_BATCH = 500
ROOM = 200
"""So many lodgments may stand in the queues of the steps before one that waits for its turn is called."""
DOOR_ROOM = 500
"""So many may stand in those queues before more are let through an agency's door: the order of slack is kept in the
ledger, and lost in a queue."""
REPLAY_ROOM = 50
"""So few may stand there before a replay puts more in: live work must not wait behind it."""
REPLAY_EVERY = 0.25
WATCH_EVERY = 5.0
STUCK_EVERY = 60.0
WARN_EVERY = 60.0
COUNT_EVERY = 60.0
HOUSEKEEPING_EVERY = 3600.0


class _Sender:
    """Publishes what a stage has committed: what a broker that is down did not take goes first when it is back."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._waiting: list[Outgoing] = []

    @property
    def behind(self) -> bool:
        return bool(self._waiting)

    async def send(self, more: Callable[[], Awaitable[Sequence[Outgoing]]]) -> int:
        """Publish what waits, or else what `more` brings; how many."""
        if not self._waiting:
            self._waiting.extend(await more())
        published = len(self._waiting)
        await self._parts.broker.publish(self._waiting)
        self._waiting.clear()
        self._parts.metrics.swept(published)
        return published


def activities(parts: Parts) -> list[Activity]:
    reschedule = Reschedule(parts.context, SWEEP_BATCH)
    due = _Sender(parts)

    async def sweep() -> bool:
        return await due.send(reschedule.sweep) >= SWEEP_BATCH

    async def keep_house() -> bool:
        async with parts.ledger.transaction() as tx:
            await partitions.ensure(tx, parts.context.clock())
        return False

    return [
        Periodic("sweep", sweep, parts.settings.sweep_every.total_seconds(), parts.metrics),
        _calling_forward(parts, reschedule),
        _sweeping_stuck(parts),
        _reopening(parts),
        _replaying(parts),
        *_watching(parts),
        Periodic("housekeeping", keep_house, HOUSEKEEPING_EVERY, parts.metrics),
        Runner(Quarantine(parts.context), parts.broker, Pace(batch=parts.settings.batch), parts.metrics),
    ]


async def _room(parts: Parts, most: int, *besides: str) -> int:
    """How many more messages may stand in the queues of the steps, and in those `besides` them, where `most` may."""
    depths = await parts.broker.depths()
    return most - sum(depths.get(name, 0) for name in (*NEXT_STEP.values(), *besides))


def _calling_forward(parts: Parts, reschedule: Reschedule) -> Periodic:
    called = _Sender(parts)

    async def call_forward() -> bool:
        if not called.behind:
            async with parts.ledger.transaction(read_only=True) as tx:
                if not await shares.any_waits(tx):
                    return False
        room = await _room(parts, ROOM)
        if room <= 0:
            return False
        # What was called may be in hand already: then there is room for more at once.
        return await called.send(lambda: reschedule.call_forward(room)) >= min(room, SWEEP_BATCH)

    return Periodic("shares", call_forward, parts.settings.sweep_every.total_seconds(), parts.metrics)


def _sweeping_stuck(parts: Parts) -> Periodic:
    stuck = Sweep(parts.context, SWEEP_BATCH)
    put_right = _Sender(parts)

    async def sweep_stuck() -> bool:
        return await put_right.send(stuck.look) >= SWEEP_BATCH

    return Periodic("stuck", sweep_stuck, STUCK_EVERY, parts.metrics)


def _replaying(parts: Parts) -> Periodic:
    replaying = ReplayStage(parts.context, replay_policy(parts.settings.replay))
    started = _Sender(parts)

    async def replay() -> bool:
        if not started.behind:
            async with parts.ledger.transaction(read_only=True) as tx:
                if not await replays.any_busy(tx):
                    return False
        room = await _room(parts, REPLAY_ROOM, Step.RECORD, *map(later, STEPS))
        await started.send(lambda: replaying.advance(room))
        return False

    return Periodic("replay", replay, REPLAY_EVERY, parts.metrics)


def _reopening(parts: Parts) -> Periodic:
    reopen = Reopen(parts.context, SWEEP_BATCH)
    through = _Sender(parts)

    async def let_through() -> bool:
        if not through.behind and not await reopen.look():
            return False
        room = await _room(parts, DOOR_ROOM, *map(later, STEPS))
        if room <= 0:
            return False
        return await through.send(lambda: reopen.let_through(room)) >= min(room, SWEEP_BATCH)

    return Periodic("reopen", let_through, parts.settings.sweep_every.total_seconds(), parts.metrics)


def _watching(parts: Parts) -> list[Activity]:
    watching = Watch(parts.context, parts.metrics, SWEEP_BATCH)

    async def warn() -> bool:
        warned = await watching.near_due()
        await parts.broker.publish([one.event for one in warned])
        await watching.told(warned)
        return len(warned) >= SWEEP_BATCH

    async def count() -> bool:
        await watching.count()
        async with parts.ledger.transaction(read_only=True) as tx:
            parts.metrics.replays(await replays.running(tx))
        return False

    return [
        Periodic("watch", watching.look, WATCH_EVERY, parts.metrics),
        Periodic("warn", warn, WARN_EVERY, parts.metrics),
        Periodic("count", count, COUNT_EVERY, parts.metrics),
    ]
