"""One lodgment as the ledger keeps it, and the only way in which it changes: `moved`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from pipeline.lodgment.decisions import Tally
from pipeline.lodgment.failures import Failure, Party
from pipeline.lodgment.references import MessageReferenceNumber, TokenKeyHash
from pipeline.lodgment.states import FINAL, State, may_follow

TOKEN_REQUESTED = "token.requested"  # noqa: S105  - a reason code
"""Parked until the token worker has the token; the answer wakes the lodgment."""
NOT_BEFORE = "job.not-before"
"""Parked because the producer asked to wait until a time."""
LANE_TURN = "lane.turn"
"""Parked until the earlier lodgments with the same order key are final."""
OPERATOR_RELEASED = "operator.released"
"""On its way again because a person said so."""
OPERATOR_REPLAYED = "operator.replayed"
"""On its way again as one of many that a person replays."""
AGENCY_DELAYED = "agency.delayed"
"""The agency has it and has not finished."""
POLL_DUE = "poll.due"
"""On its way to be asked about again."""
OUTCOME_LATE = "outcome.late"
"""The agency has it for longer than it usually takes; it is asked on, and people are told."""
OUTCOME_MISSING = "outcome.missing"
"""Asked for as long as its channel asks; a person must ask the agency otherwise."""
LEDGER_RESTORED = "ledger.restored"
"""Open in the copy that the ledger was restored from; what became of it since, only the agency knows."""
BREAKER_OPEN = "breaker.open"
"""Parked before an agency's door that is closed because the agency is down, or because a person closed it."""
BREAKER_POLLS = "breaker.polls"
"""The same, with a question about what the agency has."""
CLOSEDOWN = "agency.closedown"
"""Parked until the end of a closedown of the calendar."""
WORKER_LOST = "worker.lost"
"""The attempt's worker stopped; a reply that it still brings takes this code's place."""


class IllegalTransitionError(RuntimeError):
    """A stage asked for an arrow that the table does not have: a defect in the stage, never in the data."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a lodgment is where it is: a searchable code, plain words, and who must act."""

    code: str
    text: str
    who: Party = Party.NOBODY

    @classmethod
    def of(cls, failure: Failure) -> "Reason":
        """The reason that a failure gives: our advice first, then what the other side said."""
        text = f"{failure.advice} [{failure.detail}]" if failure.detail else failure.advice
        return cls(failure.code, text, failure.who)


@dataclass(frozen=True, slots=True)
class Lodgment:
    """A row of the ledger. Times are aware, in UTC. `version` counts the moves and guards each of them."""

    id: UUID
    reference: MessageReferenceNumber
    job_id: str
    content_digest: str
    channel: str
    service: str
    action: str
    environment: str
    sender_id: str
    sender_type: str
    party_abn: str
    credential: str
    software_id: str | None
    order_key: str | None
    priority: int
    due_date: date | None
    received_at: datetime
    payload_id: UUID
    facts: Mapping[str, str]
    """The channel's own notes of job and document."""
    state: State
    version: int = 0
    due_at: datetime | None = None
    """When the scheduler looks again: to wake what waits, to repeat what is stuck; None once final or held."""
    resume: State | None = None
    """The state in which a waiting lodgment goes on."""
    reason: Reason | None = None
    tally: Tally = field(default_factory=Tally)
    token_key: TokenKeyHash | None = None
    token_expires_at: datetime | None = None
    envelope_id: UUID | None = None
    attempt_id: UUID | None = None
    """The latest attempt."""
    attempts: int = 0
    sent_at: datetime | None = None
    """When the first attempt was claimed; from then on the lodgment cannot be cancelled."""
    agency_reference: str | None = None
    """What the agency calls it: set once the agency has said that it has it."""
    document_number: str | None = None
    finished_at: datetime | None = None
    gateway: str | None = None
    """Which of the agency's doors it went through; it is asked for there."""
    hold_id: UUID | None = None
    """The hold that keeps it, while it is held for what stops more than this lodgment."""
    watch_at: datetime | None = None
    """When the watch looks at it; None while nothing was sent, and while a person has it."""
    doubted_at: datetime | None = None
    """When the ledger was restored from an earlier copy that had it open: it may have been sent since, whatever
    `sent_at` says, and cannot be cancelled.
    """
    replayed_at: datetime | None = None
    """When it was last replayed: the clocks of lateness and of giving up begin anew then."""

    @property
    def yields(self) -> bool:
        """Whether it gives way to others at every step: what is replayed does, until it is final."""
        return self.replayed_at is not None

    @property
    def clock_from(self) -> datetime | None:
        """From when on the agency has had it, as far as lateness goes; None while nothing was sent."""
        if self.sent_at is None or self.replayed_at is None:
            return self.sent_at
        return max(self.sent_at, self.replayed_at)

    def moved(
        self,
        state: State,
        *,
        due_at: datetime | None = None,
        resume: State | None = None,
        reason: Reason | None = None,
        tally: Tally | None = None,
    ) -> "Lodgment":
        """This lodgment in its next state, one version on; the ledger writes it only if nobody else moved it first.

        Raises:
            IllegalTransitionError: the table has no such arrow, a waiting state lacks its wake-up time, or a lodgment
                that was or may have been sent would be cancelled.
        """
        if not may_follow(self.state, state):
            raise IllegalTransitionError(f"{self.state} → {state} ({self.id})")
        if state is State.CANCELLED and self.sent_at is not None:
            raise IllegalTransitionError(f"{self.id} was sent at {self.sent_at.isoformat()}: it cannot be cancelled")
        if state is State.CANCELLED and self.doubted_at is not None:
            raise IllegalTransitionError(f"{self.id} may have been sent before the ledger was restored")
        asleep = state in FINAL or state is State.HELD
        if asleep != (due_at is None):
            raise IllegalTransitionError(f"{state} {'takes no' if asleep else 'needs a'} due_at ({self.id})")
        return replace(
            self,
            state=state,
            version=self.version + 1,
            due_at=due_at,
            resume=resume,
            reason=reason,
            tally=self.tally if tally is None else tally,
            hold_id=None,
            watch_at=None if asleep else self.watch_at,
        )


class Purpose(StrEnum):
    """Why an attempt was made; every one carries the same message reference number."""

    SUBMIT = "submit"
    RESUBMIT = "resubmit"
    """After an unknown or refused attempt."""
    POLL = "poll"
    """To ask for the outcome of what the agency already has."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending, append-only: written before the socket opens, completed once.

    `wire_started_at` is None while no byte can have left. `failure` is set when no whole reply arrived; `reply_id` when
    one did.
    """

    id: UUID
    lodgment_id: UUID
    number: int
    purpose: Purpose
    worker: str
    url: str
    envelope_id: UUID
    started_at: datetime
    wire_started_at: datetime | None = None
    finished_at: datetime | None = None
    http_status: int | None = None
    reply_id: UUID | None = None
    content_type: str | None = None
    failure: Failure | None = None
