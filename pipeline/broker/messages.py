"""The messages that the pipeline writes itself: a step's message carries ids, an outcome event carries no document."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from pipeline.broker.port import Exchange, Outgoing
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.failures import Party
from pipeline.lodgment.job import LodgmentJob
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.outcome import MessageEvent, Severity

STEP_MESSAGE_LIMIT = 1024
"""Bytes of a step's message: it carries ids, never a document (claim check)."""

UNKNOWN = "unknown"
WARNED = "warned"
"""The event of a lodgment that is where it was, and that somebody should look at while there is time."""


@dataclass(frozen=True, slots=True)
class StepMessage:
    """Which lodgment a step is to work on, and for `record` which attempt's reply."""

    lodgment_id: UUID
    attempt_id: UUID | None = None


def step_message(lodgment_id: UUID, attempt_id: UUID | None = None) -> bytes:
    fields: dict[str, str | int] = {"v": 1, "lodgment": str(lodgment_id)}
    if attempt_id is not None:
        fields["attempt"] = str(attempt_id)
    return json.dumps(fields, separators=(",", ":")).encode()


def read_step_message(body: bytes) -> StepMessage:
    """The ids in a step's message.

    Raises:
        RefusedError: `message.step` for anything that `step_message` did not write.
    """
    try:
        fields = json.loads(body) if len(body) <= STEP_MESSAGE_LIMIT else None
        match fields:
            case {"v": 1, "lodgment": str(lodgment), "attempt": str(attempt), **rest} if not rest:
                return StepMessage(UUID(lodgment), UUID(attempt))
            case {"v": 1, "lodgment": str(lodgment), **rest} if not rest:
                return StepMessage(UUID(lodgment))
    except (ValueError, RecursionError) as error:
        raise _not_a_step_message() from error
    raise _not_a_step_message()


def _not_a_step_message() -> RefusedError:
    return RefusedError(
        "message.step",
        'a message of a step is {"v":1,"lodgment":<uuid>} with an optional "attempt":<uuid>,'
        f" at most {STEP_MESSAGE_LIMIT} bytes",
    )


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True)


class EventReason(_Event):
    """Why: a code to search for, plain words, and who must act."""

    code: str
    text: str
    who: Party


class EventDetail(_Event):
    """One message event of the agency."""

    code: str
    severity: Severity
    description: str
    location: str | None
    details: tuple[str, ...]
    payee: str | None = None
    record: str | None = None


class OutcomeEvent(_Event):
    """What a payroll system learns of one lodgment; `event` is the state it is now in, `refused` or `warned`.

    Subscribers may see an event twice; both copies carry the same message id.
    """

    v: Literal[1] = 1
    event: str
    job_id: str | None
    lodgment: UUID | None = None
    reference: str | None = None
    channel: str | None = None
    service: str | None = None
    action: str | None = None
    abn: str | None = None
    state: str | None = None
    reason: EventReason | None = None
    agency_reference: str | None = None
    document_number: str | None = None
    events: tuple[EventDetail, ...] = ()
    at: AwareDatetime

    @classmethod
    def read(cls, body: bytes) -> Self:
        """The event in a message body; fields of later versions are passed over.

        Raises:
            RefusedError: `message.outcome` when it is not an outcome event of version 1.
        """
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            raise RefusedError("message.outcome", "the message is not an outcome event of version 1") from error


def outcome_event(lodgment: Lodgment, events: Sequence[MessageEvent], now: datetime) -> Outgoing:
    """The event for the state that `lodgment` is in. Published again, it has the same message id.

    `at` is when it became final, else `now`: a time that is not after its state was read.
    """
    reason = lodgment.reason
    event = OutcomeEvent(
        event=lodgment.state,
        job_id=lodgment.job_id,
        lodgment=lodgment.id,
        reference=lodgment.reference,
        channel=lodgment.channel,
        service=lodgment.service,
        action=lodgment.action,
        abn=lodgment.party_abn,
        state=lodgment.state,
        reason=None if reason is None else EventReason(code=reason.code, text=reason.text, who=reason.who),
        agency_reference=lodgment.agency_reference,
        document_number=lodgment.document_number,
        events=tuple(_detail(each) for each in events),
        at=lodgment.finished_at or now,
    )
    key = outcome_key(lodgment.channel, lodgment.state, lodgment.party_abn)
    return _outgoing(event, key, f"{lodgment.id}:{lodgment.version}")


def warning_event(lodgment: Lodgment, reason: EventReason, now: datetime) -> Outgoing:
    """The event for a lodgment that stays where it is, with what is to be told of it. Told again, it has the same
    message id.
    """
    event = OutcomeEvent(
        event=WARNED,
        job_id=lodgment.job_id,
        lodgment=lodgment.id,
        reference=lodgment.reference,
        channel=lodgment.channel,
        service=lodgment.service,
        action=lodgment.action,
        abn=lodgment.party_abn,
        state=lodgment.state,
        reason=reason,
        agency_reference=lodgment.agency_reference,
        at=now,
    )
    return _outgoing(event, outcome_key(lodgment.channel, WARNED, lodgment.party_abn), f"{lodgment.id}:{reason.code}")


def refusal_event(
    job_id: str | None, code: str, problems: Sequence[str], now: datetime, job: LodgmentJob | None = None
) -> Outgoing:
    """The event for a job that was not taken. `job` is given when it could be read: it says whom the event concerns."""
    text = "; ".join(problems)
    event = OutcomeEvent(
        event="refused",
        job_id=job_id,
        channel=job and job.channel,
        service=job and job.service,
        action=job and job.action,
        abn=job and job.party_abn(),
        reason=EventReason(code=code, text=text, who=Party.PRODUCER),
        at=now,
    )
    digest = hashlib.sha256(f"{job_id}\n{code}\n{text}".encode()).hexdigest()
    key = outcome_key(event.channel or UNKNOWN, "refused", event.abn or UNKNOWN)
    return _outgoing(event, key, f"refused:{digest[:32]}")


def outcome_key(channel: str, state: str, abn: str) -> str:
    """`outcome.<channel>.<state>.<abn>`; what would make another word of a topic key becomes an underscore."""
    return ".".join(("outcome", *(re.sub(r"[^A-Za-z0-9_-]", "_", word) for word in (channel, state, abn or UNKNOWN))))


def _detail(event: MessageEvent) -> EventDetail:
    return EventDetail(
        code=event.code,
        severity=event.severity,
        description=event.description,
        location=event.location,
        details=event.details,
        payee=event.payee,
        record=event.record,
    )


def _outgoing(event: OutcomeEvent, key: str, message_id: str) -> Outgoing:
    return Outgoing(Exchange.OUTCOMES, key, event.model_dump_json().encode(), message_id)
