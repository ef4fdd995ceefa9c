"""The trouble that a synthetic pay event asks for, and what happens in which turn: pure functions.

A pay event has no room for foreign elements, so the script stands where a payer's name would:
`SANDBOX:<scenario>;times=2;seconds=5` in OrganisationName. Any other name: accept.
"""

from dataclasses import dataclass
from enum import StrEnum

from pipeline.sandbox.scenarios import Delivery

MARK = "SANDBOX:"
_MOST_TIMES, _LONGEST = 1_000, 86_400


class Sbr2Scenario(StrEnum):
    """What the agency makes of a pay event."""

    ACCEPT = "accept"
    ACCEPT_WITH_WARNINGS = "accept-with-warnings"
    PARTIALLY_ACCEPT = "partially-accept"
    """An error in the second payee's record, the others stand."""
    REJECT = "reject"
    DELAYED = "delayed"
    """No outcome for `seconds` after the push; with `times=-1` never one."""
    NOT_AUTHORISED = "not-authorised"
    """Pushes are refused with SBR.GEN.AUTH.006, `times` times."""
    NOT_AUTHORISED_LATER = "not-authorised-later"
    """The same, said in the response that is pulled; the document was not taken, and may be pushed again."""
    UNAVAILABLE = "unavailable"
    """HTTP 503 and nothing was processed."""
    RESET_BEFORE = "reset-before"
    """The connection is reset and nothing was processed."""
    EXPIRED_TOKEN = "expired-token"  # noqa: S105  - a scenario, not a secret
    SLOW = "slow"
    """The receipt comes `seconds` late."""
    LOST_REPLY = "lost-reply"
    """Processed, then the connection closes without a byte."""
    TRUNCATED_RECEIPT = "truncated-receipt"
    """Processed, and the connection closes amid the receipt."""
    WRONG_RECEIPT = "wrong-receipt"
    """The receipt repeats other digests than those that were signed."""
    DUPLICATE = "duplicate"
    """Processed and the receipt lost; the next push of it is answered as a duplicate, not with the receipt."""
    TRUNCATED_RESPONSE = "truncated-response"
    """A whole HTTP reply of half a multipart message."""
    BROKEN_BOUNDARY = "broken-boundary"
    BROKEN_GZIP = "broken-gzip"
    WRONG_REFERENCE = "wrong-reference"
    """The response is about another message."""
    TAMPERED_RESPONSE = "tampered-response"
    """The events were exchanged after they had been signed."""
    UNSIGNED_RESPONSE = "unsigned-response"


@dataclass(frozen=True, slots=True)
class Sbr2Script:
    """`times`: how often the trouble happens before it ends; -1 for always."""

    scenario: Sbr2Scenario = Sbr2Scenario.ACCEPT
    times: int = 1
    seconds: float = 2.0

    def __str__(self) -> str:
        """As it stands in a payer's name."""
        return f"{MARK}{self.scenario};times={self.times};seconds={self.seconds:g}"


def read_script(name: str) -> Sbr2Script:
    """The script in a payer's name.

    Raises:
        ValueError: it begins like a script and is none; says what there is.
    """
    if not name.startswith(MARK):
        return Sbr2Script()
    scenario, *options = name.removeprefix(MARK).split(";")
    if scenario not in set(Sbr2Scenario):
        raise ValueError(f"no such scenario; there are: {', '.join(Sbr2Scenario)}")
    values = dict(option.partition("=")[::2] for option in options)
    if not values.keys() <= {"times", "seconds"}:
        raise ValueError("a scenario is followed by ;times= and ;seconds=, and nothing else")
    times, seconds = int(values.get("times", "1")), float(values.get("seconds", "2"))
    if not (-1 <= times <= _MOST_TIMES and 0 <= seconds <= _LONGEST):
        raise ValueError(f"times lie between -1 and {_MOST_TIMES}, seconds between 0 and {_LONGEST}")
    return Sbr2Script(Sbr2Scenario(scenario), times, seconds)


class Said(StrEnum):
    """What a push is answered."""

    RECEIPT = "receipt"
    WRONG_RECEIPT = "wrong-receipt"
    DUPLICATE = "duplicate"
    NOT_AUTHORISED = "not-authorised"
    STALE_TOKEN = "stale-token"  # noqa: S105  - an answer, not a secret
    UNAVAILABLE = "unavailable"


class Packed(StrEnum):
    """What becomes of the response on its way."""

    RIGHT = "right"
    TRUNCATED = "truncated"
    BROKEN_BOUNDARY = "broken-boundary"
    BROKEN_GZIP = "broken-gzip"
    WRONG_REFERENCE = "wrong-reference"
    TAMPERED = "tampered"
    UNSIGNED = "unsigned"


@dataclass(frozen=True, slots=True)
class PushTurn:
    """One answer to a push. `takes`: the document is processed, if it was not before."""

    said: Said = Said.RECEIPT
    delivery: Delivery = Delivery.WHOLE
    takes: bool = True
    trouble: bool = False


@dataclass(frozen=True, slots=True)
class PullTurn:
    """One answer to a pull whose outcome is due."""

    packed: Packed = Packed.RIGHT
    trouble: bool = False


_PUSHES = {
    Sbr2Scenario.NOT_AUTHORISED: PushTurn(Said.NOT_AUTHORISED, takes=False, trouble=True),
    Sbr2Scenario.NOT_AUTHORISED_LATER: PushTurn(takes=False, trouble=True),
    Sbr2Scenario.UNAVAILABLE: PushTurn(Said.UNAVAILABLE, takes=False, trouble=True),
    Sbr2Scenario.RESET_BEFORE: PushTurn(Said.UNAVAILABLE, Delivery.RESET, takes=False, trouble=True),
    Sbr2Scenario.EXPIRED_TOKEN: PushTurn(Said.STALE_TOKEN, takes=False, trouble=True),
    Sbr2Scenario.SLOW: PushTurn(delivery=Delivery.LATE, trouble=True),
    Sbr2Scenario.LOST_REPLY: PushTurn(delivery=Delivery.LOST, trouble=True),
    Sbr2Scenario.TRUNCATED_RECEIPT: PushTurn(delivery=Delivery.HALF, trouble=True),
    Sbr2Scenario.WRONG_RECEIPT: PushTurn(Said.WRONG_RECEIPT, trouble=True),
    Sbr2Scenario.DUPLICATE: PushTurn(delivery=Delivery.LOST, trouble=True),
}
_PULLS = {
    Sbr2Scenario.TRUNCATED_RESPONSE: PullTurn(Packed.TRUNCATED, trouble=True),
    Sbr2Scenario.BROKEN_BOUNDARY: PullTurn(Packed.BROKEN_BOUNDARY, trouble=True),
    Sbr2Scenario.BROKEN_GZIP: PullTurn(Packed.BROKEN_GZIP, trouble=True),
    Sbr2Scenario.WRONG_REFERENCE: PullTurn(Packed.WRONG_REFERENCE, trouble=True),
    Sbr2Scenario.TAMPERED_RESPONSE: PullTurn(Packed.TAMPERED, trouble=True),
    Sbr2Scenario.UNSIGNED_RESPONSE: PullTurn(Packed.UNSIGNED, trouble=True),
}


def push_turn(script: Sbr2Script, troubles: int) -> PushTurn:
    """What happens to a push that has had `troubles` so far."""
    if script.times < 0 or troubles < script.times:
        return _PUSHES.get(script.scenario, PushTurn())
    return PushTurn(Said.DUPLICATE) if script.scenario is Sbr2Scenario.DUPLICATE else PushTurn()


def pull_turn(script: Sbr2Script, troubles: int) -> PullTurn:
    """What happens to a pull that has had `troubles` so far."""
    if script.times < 0 or troubles < script.times:
        return _PULLS.get(script.scenario, PullTurn())
    return PullTurn()
