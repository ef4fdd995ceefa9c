"""The transport worker: holds hundreds of requests to slow agencies in flight."""

from pipeline.bootstrap import Parts
from pipeline.broker.port import later
from pipeline.runner import Activity, Pace, Runner
from pipeline.settings import Settings
from pipeline.stages.submit import Submit

_BESIDE = 8
_FEW = 4


def activities(parts: Parts) -> list[Activity]:
    stage = Submit(parts.context, parts.agency)
    own, beside = paces_of(parts.settings)
    return [
        Runner(stage, parts.broker, own, parts.metrics),
        Runner(stage, parts.broker, beside, parts.metrics, queue=later(stage.step)),
    ]


def paces_of(settings: Settings) -> tuple[Pace, Pace]:
    """For the step's own queue, and for the one beside it: an eighth of the requests, so that however slow an agency
    is, what gives way never has the connections that other work waits for.

    No more in hand than there are connections: what waits for one too long would fail without having been sent.
    """
    few = max(1, settings.in_flight // _BESIDE)
    most = max(1, settings.in_flight - few)
    batch = min(settings.batch, max(1, most // 5))
    return Pace(batch=batch, overlap=most // batch), Pace(batch=min(_FEW, few), overlap=few // min(_FEW, few))
