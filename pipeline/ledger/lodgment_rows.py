"""A lodgment as a row, both ways."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Row

from pipeline.ledger.tables import lodgment
from pipeline.lodgment.decisions import Tally
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.states import State

_NAMES = tuple(lodgment.c.keys())
_MOVING, _DOCUMENTS = _NAMES.index("state"), _NAMES.index("job")

COLUMNS = tuple(lodgment.c)[:_DOCUMENTS]
"""What `lodgment_of` reads; the producer's documents stay behind, they are as large as all the rest."""
CHANGING = _NAMES[_MOVING:_DOCUMENTS]
"""What a move writes; in the table these columns stand together, after those that never change."""


@dataclass(frozen=True, slots=True)
class NewLodgment:
    """A lodgment to take in: `job` is the producer's job as JSON without its payload, `labels` are its own."""

    lodgment: Lodgment
    job: str
    labels: Mapping[str, str]


def new_row(new: NewLodgment) -> dict[str, object]:
    """Every column."""
    item = new.lodgment
    return {
        "id": item.id,
        "reference": item.reference,
        "job_id": item.job_id,
        "content_digest": item.content_digest,
        "channel": item.channel,
        "service": item.service,
        "action": item.action,
        "environment": item.environment,
        "sender_id": item.sender_id,
        "sender_type": item.sender_type,
        "party_abn": item.party_abn,
        "credential": item.credential,
        "software_id": item.software_id,
        "order_key": item.order_key,
        "priority": item.priority,
        "due_date": item.due_date,
        "received_at": item.received_at,
        "payload_id": item.payload_id,
        "facts": dict(item.facts),
        "job": new.job,
        "labels": dict(new.labels),
        "submission_id": item.facts.get("submission"),
        "warned": None,
        "due_warned": None,
        **changing(item),
    }


def changing(item: Lodgment) -> dict[str, object]:
    """The columns of `CHANGING`."""
    reason = item.reason
    return {
        "state": item.state,
        "version": item.version,
        "due_at": item.due_at,
        "resume": item.resume,
        "reason_code": reason.code if reason else None,
        "reason_text": reason.text if reason else None,
        "reason_who": reason.who if reason else None,
        "failures": item.tally.failures,
        "waits": item.tally.waits,
        "token_key": item.token_key,
        "token_expires_at": item.token_expires_at,
        "envelope_id": item.envelope_id,
        "attempt_id": item.attempt_id,
        "attempts": item.attempts,
        "sent_at": item.sent_at,
        "agency_reference": item.agency_reference,
        "document_number": item.document_number,
        "finished_at": item.finished_at,
        "gateway": item.gateway,
        "hold_id": item.hold_id,
        "watch_at": item.watch_at,
        "doubted_at": item.doubted_at,
        "replayed_at": item.replayed_at,
    }


def lodgment_of(row: Row[Any]) -> Lodgment:
    """The lodgment in a row that begins with `COLUMNS`, which stand in the order of its fields."""
    values = tuple(row)[:_DOCUMENTS]
    state, version, due_at, resume, code, text, who, failures, waits = values[_MOVING : _MOVING + 9]
    fields = (
        *values[:_MOVING],
        State(state),
        version,
        due_at,
        State(resume) if resume else None,
        Reason(code, text, Party(who)) if code else None,
        Tally(failures, waits),
        *values[_MOVING + 9 :],
    )
    return Lodgment(*fields)
