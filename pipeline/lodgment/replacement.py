"""Whether a full file replacement may go: a pure function over what its lane has lodged.

It takes the place of the event with the same submission id, and the agency's rules let it: only for the latest event of
the lane, once (PAYEVNT.EM14160), never before that event has its outcome, never for an update event, and not during a
closedown (sbr-stp notes 1.7, 2.4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.states import FINAL, State

ELSEWHERE = "replacement.elsewhere"
"""The event to be replaced was not lodged by this pipeline: the agency alone can judge the replacement."""
_VOID = frozenset({State.REJECTED, State.CANCELLED})
"""As good as never lodged."""


@dataclass(frozen=True, slots=True)
class LaneEvent:
    """One event of a lane, taken in before the one that is judged. `updates` is for an event that pays nothing."""

    id: UUID
    submission: str
    state: State
    replaces: bool
    updates: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say: a refusal, or whom it must wait for, or neither. `original` is what it replaces, where that
    is known here.
    """

    refusal: Reason | None = None
    waits_for: UUID | None = None
    original: UUID | None = None
    elsewhere: bool = False


def event_of(row: Lodgment) -> LaneEvent:
    """The lodgment as its lane's history has it."""
    facts = row.facts
    return LaneEvent(
        row.id,
        facts.get("submission", ""),
        row.state,
        replaces=bool(facts.get("replaces")),
        updates=bool(facts.get("updates")),
    )


def judge(row: Lodgment, history: Sequence[LaneEvent]) -> Verdict:
    """Judge a replacement by the events that are before it in its lane, in order, final ones included."""
    submission = row.facts.get("submission", "")
    valid = [event for event in history if event.state not in _VOID]
    same = [event for event in history if event.submission == submission]
    good = [event for event in same if event.state not in _VOID]
    if not same:
        return Verdict(elsewhere=True)
    if not good:
        return Verdict(_refused("void", same[-1]), original=same[0].id)
    original = good[0]
    refusal = _lasting(original, good, valid)
    if refusal is not None:
        return Verdict(refusal, original=original.id)
    undecided = next((event for event in valid if event.state not in FINAL), None)
    return Verdict(waits_for=undecided.id if undecided else None, original=original.id)


def _lasting(original: LaneEvent, good: Sequence[LaneEvent], valid: Sequence[LaneEvent]) -> Reason | None:
    """What no later outcome can mend. What is not final counts for nothing yet: it may still come to nothing."""
    if original.updates:
        return _refused("update", original)
    settled = [event for event in valid if event.state in FINAL]
    replaced = next((event for event in good[1:] if event.replaces and event.state in FINAL), None)
    if replaced is not None:
        return _refused("again", replaced)
    later = settled[-1] if settled and settled[-1].id > original.id else None
    if later is not None and later.submission != original.submission:
        return _refused("latest", later)
    return None


def in_closedown(until: datetime) -> Reason:
    """Why a replacement waits although the agency takes documents in."""
    text = f"The agency takes no full file replacements during its closedown, which ends at {until:%Y-%m-%d %H:%M} UTC."
    return Reason("replacement.closedown", text)


_RULES = {
    "void": "the event that it replaces, {event}, was {state}, so there is nothing to replace: lodge the event as a new"
    " job without AmendmentI",
    "update": "the event that it replaces, {event}, is an update event, which cannot be replaced: lodge a further one",
    "again": "the event was replaced already, by {event}, and can be replaced only once (PAYEVNT.EM14160): correct it"
    " by an update event",
    "latest": "a later event of this payer, branch and BMS id was lodged, {event}, and only the latest can be replaced:"
    " correct it by an update event",
}


def _refused(rule: str, event: LaneEvent) -> Reason:
    text = _RULES[rule].format(event=event.id, state=event.state.replace("_", " "))
    return Reason(f"replacement.{rule}", f"AmendmentI: not sent as a full file replacement: {text}", Party.PRODUCER)
