"""The scheduler worker: wakes what is due, keeps what could not be handled, keeps house. Several may run."""

from pipeline.bootstrap import Parts
from pipeline.ledger import partitions
from pipeline.runner import Activity, Pace, Periodic, Runner
from pipeline.stages.quarantine import Quarantine
from pipeline.stages.reschedule import Reschedule

SWEEP_BATCH = 500
HOUSEKEEPING_EVERY = 3600.0


def activities(parts: Parts) -> list[Activity]:
    reschedule = Reschedule(parts.context, SWEEP_BATCH)

    async def sweep() -> bool:
        publications = await reschedule.sweep()
        if publications:
            await parts.broker.publish(publications)
        parts.metrics.swept(len(publications))
        return len(publications) >= SWEEP_BATCH

    async def keep_house() -> bool:
        async with parts.ledger.transaction() as tx:
            await partitions.ensure(tx, parts.context.clock())
        return False

    return [
        Periodic("sweep", sweep, parts.settings.sweep_every.total_seconds(), parts.metrics),
        Periodic("housekeeping", keep_house, HOUSEKEEPING_EVERY, parts.metrics),
        Runner(Quarantine(parts.context), parts.broker, Pace(batch=parts.settings.batch), parts.metrics),
    ]
