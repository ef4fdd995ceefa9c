"""The signer worker: builds secured envelopes. Waits for the CPU only; run one for each core to spare."""

from pipeline.bootstrap import Parts
from pipeline.runner import Activity, Pace, Runner
from pipeline.stages.seal import Seal


def activities(parts: Parts) -> list[Activity]:
    stage = Seal(parts.context, parts.keyring())
    return [Runner(stage, parts.broker, Pace(batch=parts.settings.batch), parts.metrics)]
