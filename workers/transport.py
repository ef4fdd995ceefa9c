"""The transport worker: holds hundreds of requests to slow agencies in flight."""

from pipeline.bootstrap import Parts
from pipeline.runner import Activity, Pace, Runner
from pipeline.stages.submit import Submit


def activities(parts: Parts) -> list[Activity]:
    # No more in hand than there are connections: what waits for one too long would fail without having been sent.
    batch = min(parts.settings.batch, max(1, parts.settings.in_flight // 5))
    pace = Pace(batch=batch, overlap=parts.settings.in_flight // batch)
    return [Runner(Submit(parts.context, parts.agency), parts.broker, pace, parts.metrics)]
