"""What becomes of a breaker is told once, by the process that made it: one log event, and the metrics."""

import structlog

from pipeline.lodgment.breaker import Breaker, BreakerScope, BreakerState
from pipeline.telemetry import Metrics

log = structlog.get_logger(__name__)


def tell(metrics: Metrics, scope: BreakerScope, name: str, before: Breaker, after: Breaker) -> None:
    """One event for each change of state."""
    metrics.breaker(scope, name, before.state, after.state)
    if before.state is after.state:
        return
    cause = after.cause or before.cause
    event = log.bind(scope=scope, name=name, code=cause.code if cause else None)
    match after.state:
        case BreakerState.OPEN if before.state is BreakerState.CLOSED:
            event.error("breaker.opened", cause=cause.text if cause else "", probe_at=str(after.probe_at))
        case BreakerState.OPEN:
            event.warning("breaker.still_open", probe_at=str(after.probe_at))
        case BreakerState.PROBING:
            event.info("breaker.probing", lodgment=None if after.canary_id is None else str(after.canary_id))
        case BreakerState.RAMPING:
            event.info("breaker.ramping")
        case BreakerState.CLOSED:
            event.info("breaker.closed", opened_at=str(before.opened_at))
