"""The intake worker: takes jobs from producers, a fair share of each sender's at a time."""

from pipeline.bootstrap import Parts
from pipeline.gateway.documents import LARGEST, DocumentStore
from pipeline.profiles import payroll_product
from pipeline.runner import Activity, Pace, Runner
from pipeline.stages.admit import Admit
from pipeline.stages.receive import Receive
from pipeline.stages.waiting_room import WaitingRoom


def activities(parts: Parts) -> list[Activity]:
    documents = DocumentStore(parts.settings.payload_roots, LARGEST)
    receive = Receive(parts.context, documents, parts.environment.credential, payroll_product(parts.settings))
    room = WaitingRoom(parts.context, parts.settings.delivery_limit)
    # One batch after the other: of two at a time the later could be stored first, and its lane go out in that order.
    pace = Pace(batch=parts.settings.batch, overlap=1)
    return [
        Runner(Admit(parts.context, receive, room), parts.broker, pace, parts.metrics),
        Runner(receive, parts.broker, pace, parts.metrics, feed=room.opened),
    ]
