"""The outcome worker: turns replies into outcomes and tells producers."""

from pipeline.bootstrap import Parts
from pipeline.runner import Activity, Pace, Runner
from pipeline.stages.record import Record


def activities(parts: Parts) -> list[Activity]:
    return [Runner(Record(parts.context), parts.broker, Pace(batch=parts.settings.batch), parts.metrics)]
