"""The outcome worker: turns replies into outcomes and tells producers."""

from pipeline.bootstrap import Parts
from pipeline.runner import Activity
from pipeline.stages.record import Record
from workers.beside import runners


def activities(parts: Parts) -> list[Activity]:
    return runners(parts, Record(parts.context))
