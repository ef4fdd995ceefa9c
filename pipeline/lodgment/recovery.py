"""What becomes of an open lodgment when its ledger was restored from an earlier copy: what was sent is not known."""

from dataclasses import replace
from datetime import datetime, timedelta

from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import LEDGER_RESTORED, NOT_BEFORE, Lodgment, Reason
from pipeline.lodgment.states import NEXT_STEP, State

DOUBTFUL_FOR = timedelta(days=7)
"""How long after a restore a job that comes in may be one that the lost part of the ledger had taken and sent."""

_RESTORED = Reason(
    LEDGER_RESTORED,
    "The ledger was restored from a copy in which this was open: it may have been sent since. It is sent again under"
    " the same reference; an agency that has it answers with what it answered first.",
    Party.NOBODY,
)


def doubted(row: Lodgment, now: datetime, due_at: datetime) -> Lodgment | None:
    """The lodgment as it stands after a restore, to go on at `due_at`; None where nothing changes.

    What a step or a time had becomes unknown. What was being sent, was unknown or is with the agency settles itself
    under its reference already; what a person has stays with them, but cannot be cancelled any more; what still waits
    for a time that the producer set was not sent.
    """
    if row.doubted_at is not None:
        return None
    if row.state is State.HELD:
        return replace(row, version=row.version + 1, doubted_at=now)
    waits_for_its_time = row.reason is not None and row.reason.code == NOT_BEFORE
    asleep = row.state is State.PARKED and not (waits_for_its_time and row.due_at is not None and row.due_at > now)
    if not (asleep or row.state in NEXT_STEP):
        return None
    sealed = State.SEALED in {row.state, row.resume}
    resume = State.SEALED if sealed and row.envelope_id is not None else State.RECEIVED
    return replace(row.moved(State.UNKNOWN, due_at=due_at, resume=resume, reason=_RESTORED), doubted_at=now)
