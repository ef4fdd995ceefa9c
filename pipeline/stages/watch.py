"""watch: tell people, once, when an agency is late with a receipt or an outcome, and count what is open."""

from datetime import datetime

import structlog

from pipeline.ledger import holds, reports, watch
from pipeline.lodgment.watching import Look, look
from pipeline.stages.contract import Context
from pipeline.telemetry import Metrics

log = structlog.get_logger(__name__)


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

    async def count(self) -> None:
        """Set the gauges of what is open, late and held."""
        now = self._context.clock()
        async with self._context.ledger.transaction(read_only=True) as tx:
            states = await reports.state_counts(tx, now)
            late = await watch.late(tx)
            standing = await holds.by_scope(tx)
        self._metrics.standing(
            [(one.channel, one.state, one.count, (now - one.oldest).total_seconds()) for one in states],
            [(one.channel, one.lateness, one.count) for one in late],
            standing.items(),
        )

    def _look(self, one: watch.Watched, now: datetime) -> Look:
        row = one.lodgment
        return look(row, one.told, self._context.channels[row.channel].policy(row.service, row.action), now)
