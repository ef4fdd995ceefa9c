"""The intake worker: takes jobs from producers."""

from pipeline.bootstrap import Parts
from pipeline.gateway.documents import DocumentStore
from pipeline.protocol.xml import DOCUMENT_LIMIT
from pipeline.runner import Activity, Pace, Runner
from pipeline.stages.receive import Receive


def activities(parts: Parts) -> list[Activity]:
    documents = DocumentStore(parts.settings.payload_roots, DOCUMENT_LIMIT)
    stage = Receive(parts.context, documents, parts.environment.credential)
    return [Runner(stage, parts.broker, Pace(batch=parts.settings.batch), parts.metrics)]
