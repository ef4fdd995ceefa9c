"""The states of a lodgment and the one table of transitions that every worker consults."""

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a lodgment is. A row is in exactly one state, and leaves it only by a transition of `TRANSITIONS`."""

    RECEIVED = "received"
    """Stored with its message reference number; needs a security token."""
    AUTHORISED = "authorised"
    """A fresh token exists for its token key; needs its envelope."""
    SEALED = "sealed"
    """The envelope is stored, to the byte; may be sent."""
    SENDING = "sending"
    """Claimed by one transport worker: the attempt is on record and the socket may be open."""
    AWAITING = "awaiting"
    """The agency has it and answers later: it will be asked."""
    UNKNOWN = "unknown"
    """The bytes may have left and no answer came: neither lodged nor failed. Settled under the same reference only."""
    PARKED = "parked"
    """Waits until a time, with a reason: outage, its turn in an ordered lane, not-before."""
    HELD = "held"
    """A person must act; the reason says who and what."""
    ACCEPTED = "accepted"
    PARTIALLY_ACCEPTED = "partially_accepted"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    """Withdrawn by an operator, or by a rule that forbids sending it; possible only while nothing was ever sent."""


class Step(StrEnum):
    """One word per step: the stage, its queue, its event, its metric and its test."""

    RECEIVE = "receive"
    AUTHORISE = "authorise"
    SEAL = "seal"
    SUBMIT = "submit"
    RECORD = "record"
    RESCHEDULE = "reschedule"
    QUARANTINE = "quarantine"
    """Beside the way: keeps what could not be handled, with its reason."""


FINAL = frozenset({State.ACCEPTED, State.PARTIALLY_ACCEPTED, State.REJECTED, State.CANCELLED})
WAITING = frozenset({State.PARKED, State.UNKNOWN, State.AWAITING})
"""Asleep until the scheduler wakes them."""

_SETTLED = frozenset({State.ACCEPTED, State.PARTIALLY_ACCEPTED, State.REJECTED})
_AGAIN = frozenset({State.RECEIVED, State.SEALED})
"""Where a second try starts: with a new token, or with the same bytes."""
_ASIDE = frozenset({State.PARKED, State.HELD, State.CANCELLED, State.UNKNOWN})
"""Out of a step's hands. `unknown` is for a ledger that was restored: it does not know what it has sent since."""

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.RECEIVED: frozenset({State.AUTHORISED}) | _ASIDE | _SETTLED,
    State.AUTHORISED: frozenset({State.SEALED, State.RECEIVED}) | _ASIDE | _SETTLED,
    State.SEALED: frozenset({State.SENDING, State.RECEIVED}) | _ASIDE | _SETTLED,
    State.SENDING: frozenset({State.AWAITING, State.UNKNOWN, State.PARKED, State.HELD}) | _SETTLED | _AGAIN,
    State.AWAITING: frozenset({State.PARKED, State.HELD}) | _SETTLED | _AGAIN,
    State.UNKNOWN: frozenset({State.AWAITING, State.PARKED, State.HELD}) | _SETTLED | _AGAIN,
    State.PARKED: frozenset({State.AUTHORISED, State.UNKNOWN, State.HELD, State.CANCELLED, State.AWAITING})
    | _SETTLED
    | _AGAIN,
    State.HELD: frozenset({State.AUTHORISED, State.PARKED, State.CANCELLED, State.AWAITING}) | _SETTLED | _AGAIN,
    State.ACCEPTED: frozenset(),
    State.PARTIALLY_ACCEPTED: frozenset(),
    State.REJECTED: frozenset(),
    State.CANCELLED: frozenset(),
}
"""From each state, the states that may follow. Settled states are reachable from every state in which a reply to an
earlier attempt can still arrive late; `cancelled` also needs that nothing was ever sent, which `moved` guards."""

NEXT_STEP: Mapping[State, Step] = {
    State.RECEIVED: Step.AUTHORISE,
    State.AUTHORISED: Step.SEAL,
    State.SEALED: Step.SUBMIT,
}
"""The step that a lodgment in this state is queued for."""


def may_follow(source: State, target: State) -> bool:
    """Whether the table has an arrow from `source` to `target`."""
    return target in TRANSITIONS[source]
