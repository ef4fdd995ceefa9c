"""The transport worker: holds hundreds of requests to slow agencies in flight."""

from pipeline.bootstrap import Parts
from pipeline.runner import Activity, Pace, Runner
from pipeline.settings import Settings
from pipeline.stages.submit import Submit


def activities(parts: Parts) -> list[Activity]:
    pace = pace_of(parts.settings)
    return [Runner(Submit(parts.context, parts.agency), parts.broker, pace, parts.metrics)]


def pace_of(settings: Settings) -> Pace:
    """No more in hand than there are connections: what waits for one too long would fail without having been sent."""
    batch = min(settings.batch, max(1, settings.in_flight // 5))
    return Pace(batch=batch, overlap=settings.in_flight // batch)
