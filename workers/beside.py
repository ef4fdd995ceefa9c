"""Two runners for a stage: one for its own queue, and one for the queue beside it, for what gives way to the rest."""

from pipeline.bootstrap import Parts
from pipeline.broker.port import later
from pipeline.runner import Activity, Pace, Runner
from pipeline.stages.contract import Stage

_FEW = Pace(batch=4, overlap=1)
"""What comes to the stage's own queue meanwhile shares the process with so few at most."""


def runners(parts: Parts, stage: Stage) -> list[Activity]:
    """For a stage that waits for CPU and ledger: what gives way goes while nothing else is in hand, a few at once."""
    first = Runner(stage, parts.broker, Pace(batch=parts.settings.batch), parts.metrics)
    return [first, Runner(stage, parts.broker, _FEW, parts.metrics, queue=later(stage.step), after=first)]
