"""The intake worker: takes jobs from producers."""

from pipeline.bootstrap import Parts
from pipeline.gateway.documents import LARGEST, DocumentStore
from pipeline.profiles import payroll_product
from pipeline.runner import Activity, Pace, Runner
from pipeline.stages.receive import Receive


def activities(parts: Parts) -> list[Activity]:
    documents = DocumentStore(parts.settings.payload_roots, LARGEST)
    stage = Receive(parts.context, documents, parts.environment.credential, payroll_product(parts.settings))
    # One batch after the other: of two at a time the later could be stored first, and its lane go out in that order.
    return [Runner(stage, parts.broker, Pace(batch=parts.settings.batch, overlap=1), parts.metrics)]
