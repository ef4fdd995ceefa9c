"""The trouble that a synthetic lodgment asks for, and whose turn it is: a pure function of the entry and now."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Scenario(StrEnum):
    """Chosen by the payload's `sandboxScenario`; omitted: accept."""

    ACCEPT = "accept"
    ACCEPT_WITH_WARNINGS = "accept-with-warnings"
    REJECT = "reject"
    DELAYED = "delayed"
    """Not finished for `seconds`; asked again later, accepted."""
    UNAVAILABLE = "unavailable"
    UNAVAILABLE_UNTIL = "unavailable-until"
    """Unavailable, with the time `seconds` ahead at which to come back."""
    SLOW = "slow"
    """Processed, and answered `seconds` later."""
    LOST_REPLY = "lost-reply"
    """Processed, then the connection closes without a byte."""
    RESET_BEFORE = "reset-before"
    """The connection is reset and nothing was processed."""
    TRUNCATED_REPLY = "truncated-reply"
    """Processed, and half of the reply arrives."""
    EXPIRED_TOKEN = "expired-token"  # noqa: S105  - a scenario, not a secret
    INVALID = "invalid"
    RESULT_FAULT = "result-fault"


class Verdict(StrEnum):
    """What is said of the lodgment in this turn."""

    ACCEPTED = "accepted"
    ACCEPTED_WITH_WARNINGS = "accepted-with-warnings"
    REJECTED = "rejected"
    DELAYED = "delayed"
    RESULT_FAULT = "result-fault"
    UNAVAILABLE = "unavailable"
    UNAVAILABLE_UNTIL = "unavailable-until"
    STALE_TOKEN = "stale-token"  # noqa: S105  - a verdict, not a secret
    INVALID = "invalid"
    NOTHING = "nothing"


class Delivery(StrEnum):
    """How the reply leaves."""

    WHOLE = "whole"
    LATE = "late"
    HALF = "half"
    LOST = "lost"
    RESET = "reset"


FINAL = frozenset({Verdict.ACCEPTED, Verdict.ACCEPTED_WITH_WARNINGS, Verdict.REJECTED})
"""These are the register's answer: it is kept, and given again to whoever asks under the same reference."""


@dataclass(frozen=True, slots=True)
class Script:
    """`times`: how often the trouble happens before it ends; -1 for always."""

    scenario: Scenario = Scenario.ACCEPT
    times: int = 1
    seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer. `trouble` says whether this turn counts against the script's `times`."""

    verdict: Verdict
    delivery: Delivery = Delivery.WHOLE
    trouble: bool = False


_INSTEAD = {
    Scenario.UNAVAILABLE: Turn(Verdict.UNAVAILABLE, trouble=True),
    Scenario.UNAVAILABLE_UNTIL: Turn(Verdict.UNAVAILABLE_UNTIL, trouble=True),
    Scenario.RESET_BEFORE: Turn(Verdict.NOTHING, Delivery.RESET, trouble=True),
    Scenario.EXPIRED_TOKEN: Turn(Verdict.STALE_TOKEN, trouble=True),
    Scenario.INVALID: Turn(Verdict.INVALID, trouble=True),
    Scenario.RESULT_FAULT: Turn(Verdict.RESULT_FAULT, trouble=True),
}
"""Trouble in place of processing."""

_AFTERWARDS = {
    Scenario.SLOW: Turn(Verdict.ACCEPTED, Delivery.LATE, trouble=True),
    Scenario.LOST_REPLY: Turn(Verdict.ACCEPTED, Delivery.LOST, trouble=True),
    Scenario.TRUNCATED_REPLY: Turn(Verdict.ACCEPTED, Delivery.HALF, trouble=True),
}
"""Trouble on the way back, after processing."""

_VERDICTS = {
    Scenario.ACCEPT_WITH_WARNINGS: Verdict.ACCEPTED_WITH_WARNINGS,
    Scenario.REJECT: Verdict.REJECTED,
}


def take_turn(script: Script, troubles: int, first_seen: datetime, now: datetime) -> Turn:
    """What happens to a lodgment that was seen first at `first_seen` and has had `troubles` so far."""
    troubled = script.times < 0 or troubles < script.times
    if script.scenario is Scenario.DELAYED:
        waiting = script.times < 0 or now < first_seen + timedelta(seconds=script.seconds)
        return Turn(Verdict.DELAYED, trouble=True) if waiting else Turn(Verdict.ACCEPTED)
    if troubled and script.scenario in _INSTEAD:
        return _INSTEAD[script.scenario]
    if troubled and script.scenario in _AFTERWARDS:
        return _AFTERWARDS[script.scenario]
    return Turn(_VERDICTS.get(script.scenario, Verdict.ACCEPTED))
