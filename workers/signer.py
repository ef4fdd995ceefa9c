"""The signer worker: builds secured envelopes. Waits for the CPU only; run one for each core to spare."""

from pipeline.bootstrap import Parts
from pipeline.runner import Activity
from pipeline.stages.seal import Seal
from workers.beside import runners


def activities(parts: Parts) -> list[Activity]:
    return runners(parts, Seal(parts.context, parts.keyring()))
