"""The transport worker: holds hundreds of requests to slow agencies in flight."""

from pipeline.bootstrap import Parts
from pipeline.runner import Activity, Pace, Runner
from pipeline.stages.submit import Submit


def activities(parts: Parts) -> list[Activity]:
    overlap = max(2, -(-parts.settings.in_flight // parts.settings.batch))
    pace = Pace(batch=parts.settings.batch, overlap=overlap)
    return [Runner(Submit(parts.context, parts.agency), parts.broker, pace, parts.metrics)]
