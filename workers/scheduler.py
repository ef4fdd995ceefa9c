"""The scheduler worker: wakes what is due, keeps what could not be handled, keeps house. Several may run."""

from pipeline.bootstrap import Parts
from pipeline.broker.port import Outgoing
from pipeline.ledger import partitions
from pipeline.runner import Activity, Pace, Periodic, Runner
from pipeline.stages.quarantine import Quarantine
from pipeline.stages.reschedule import Reschedule
from pipeline.stages.watch import Watch

SWEEP_BATCH = 500
WATCH_EVERY = 5.0
COUNT_EVERY = 60.0
HOUSEKEEPING_EVERY = 3600.0


def activities(parts: Parts) -> list[Activity]:
    reschedule = Reschedule(parts.context, SWEEP_BATCH)
    due: list[Outgoing] = []

    async def sweep() -> bool:
        # What a broker that is down did not take is committed, and goes first when it is back.
        due.extend(() if due else await reschedule.sweep())
        published = len(due)
        await parts.broker.publish(due)
        due.clear()
        parts.metrics.swept(published)
        return published >= SWEEP_BATCH

    watching = Watch(parts.context, parts.metrics, SWEEP_BATCH)

    async def count() -> bool:
        await watching.count()
        return False

    async def keep_house() -> bool:
        async with parts.ledger.transaction() as tx:
            await partitions.ensure(tx, parts.context.clock())
        return False

    return [
        Periodic("sweep", sweep, parts.settings.sweep_every.total_seconds(), parts.metrics),
        Periodic("watch", watching.look, WATCH_EVERY, parts.metrics),
        Periodic("count", count, COUNT_EVERY, parts.metrics),
        Periodic("housekeeping", keep_house, HOUSEKEEPING_EVERY, parts.metrics),
        Runner(Quarantine(parts.context), parts.broker, Pace(batch=parts.settings.batch), parts.metrics),
    ]
