"""The doors of agencies: what is up or down as one, which answers say so, and who stands before a closed one.

A door is a service of a channel at one of its gateways; where outcomes are asked for is a door of its own, because an
agency takes documents in while it answers about none. A door without a service stands for the whole channel: a person
closes that one.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from pipeline.lodgment.breaker import Breaker, BreakerPolicy, BreakerState
from pipeline.lodgment.decisions import Tally
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.lodgment import BREAKER_OPEN, BREAKER_POLLS, CLOSEDOWN, Lodgment, Reason
from pipeline.lodgment.outcome import Outcome, Result
from pipeline.lodgment.states import State

OPERATOR_STOPPED = "operator.stopped"
NOTHING_YET = "agency.nothing-yet"
_POLLS = "/polls"
_SILENT = frozenset(
    {
        "transport.read-timeout",
        "transport.timeout",
        "transport.write-timeout",
        "transport.reset",
        "http.500",
        "http.502",
        "http.504",
    }
)
"""Unknown outcomes that many meet in a row when an agency is down; a reply that cannot be believed is none of them."""


@dataclass(frozen=True, slots=True)
class Door:
    """One door; `service` None: every door of the channel. `asks`: where outcomes are asked for."""

    channel: str
    service: str | None = None
    gateway: str | None = None
    asks: bool = False

    @property
    def name(self) -> str:
        """As breakers and people name it: `sbr2_stp/payevnt@west`, `sbr2_stp/payevnt/polls@west`, `asic_bn`."""
        if self.service is None:
            return self.channel
        at = "" if self.gateway is None else f"@{self.gateway}"
        return f"{self.channel}/{self.service}{_POLLS if self.asks else ''}{at}"

    @property
    def whole(self) -> "Door":
        """The door that stands for the whole channel."""
        return Door(self.channel)

    @property
    def code(self) -> str:
        """The reason code of who waits here; before a whole channel, as who was to be sent."""
        return BREAKER_POLLS if self.asks else BREAKER_OPEN

    @classmethod
    def named(cls, name: str) -> "Door":
        """The door with this name."""
        where, _, gateway = name.partition("@")
        channel, _, service = where.partition("/")
        asks = service.endswith(_POLLS)
        return cls(channel, service.removesuffix(_POLLS) or None, gateway or None, asks)


class Said(StrEnum):
    """What one answer says of the door that it came through."""

    WORKS = "works"
    DOWN = "down"
    QUIET = "quiet"
    """Nothing yet: of one lodgment it says nothing, of a long run of them that the agency gives no answers now."""
    TURNED_AWAY = "turned away"
    """Refused before anybody read it: of one employer it says nothing, of many that the gate is closed to us."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Shut:
    """A door that is closed to somebody, and its breaker."""

    door: Door
    breaker: Breaker


@dataclass(frozen=True, slots=True)
class BreakerPolicies:
    """The breaker policy of each service; data."""

    usual: BreakerPolicy = field(default=BreakerPolicy(ramp_answered=0.5))
    by_service: tuple[tuple[str, str | None, BreakerPolicy], ...] = ()
    """Channel, service or None for all of them, and the policy; the last that fits counts."""

    def of(self, door: Door) -> BreakerPolicy:
        """The policy of this door."""
        fitting = [
            policy
            for channel, service, policy in self.by_service
            if channel == door.channel and service in {None, door.service}
        ]
        return fitting[-1] if fitting else self.usual


def said(verdict: Outcome | Failure, *, asked: bool) -> Said:
    """What an answer, or the lack of one, says of its door. `asked`: the outcome was asked for, by a question."""
    if isinstance(verdict, Outcome):
        return Said.QUIET if asked and verdict.result is Result.DELAYED else Said.WORKS
    if is_down(verdict):
        return Said.DOWN
    if is_turned_away(verdict):
        return Said.TURNED_AWAY
    lost = {FailureClass.UNAVAILABLE, FailureClass.NOT_SENT, FailureClass.UNKNOWN}
    # Also a refusal is an answer of a service that works.
    return Said.NOTHING if verdict.kind in lost or verdict.code.startswith("transport.") else Said.WORKS


def is_down(failure: Failure) -> bool:
    """Whether this is what everybody meets whose request goes through the same door while the agency is down."""
    if failure.kind in {FailureClass.UNAVAILABLE, FailureClass.NOT_SENT}:
        return failure.blast is Blast.CHANNEL
    return failure.kind is FailureClass.UNKNOWN and failure.code in _SILENT


def is_turned_away(failure: Failure) -> bool:
    """Whether this may be about one employer alone, and is about us where many employers meet it."""
    return failure.kind is FailureClass.UNAVAILABLE and failure.blast is Blast.EMPLOYER


def silence(run: int) -> Failure:
    """The failure that so many answers in a row of "nothing yet" amount to."""
    return Failure(
        FailureClass.UNAVAILABLE,
        NOTHING_YET,
        "",
        f"{run} questions in a row were answered with nothing yet: the agency gives no outcomes now. It is asked about"
        " one lodgment at a time until there is one.",
        Party.AGENCY,
        Blast.CHANNEL,
    )


def stopped(breaker: Breaker, now: datetime, why: str, until: datetime | None) -> Breaker:
    """Opened by a person: until a time, from which on one lodgment goes first, or until a person closes it."""
    return replace(
        Breaker(allowance=breaker.allowance, allowed_at=breaker.allowed_at),
        state=BreakerState.OPEN,
        cause=Reason(OPERATOR_STOPPED, why, Party.OPERATOR),
        opened_at=now,
        probe_at=until,
        openings=1,
    )


def bars(breaker: Breaker, row: Lodgment) -> bool:
    """Whether a lodgment must wait before this door, as far as the door's state says; a ramp also counts."""
    match breaker.state:
        case BreakerState.OPEN:
            return True
        case BreakerState.PROBING:
            return breaker.canary_id != row.id
        case BreakerState.RAMPING | BreakerState.CLOSED:
            return False


def parked_at(row: Lodgment, shut: Shut, now: datetime, patience: timedelta, tally: Tally | None = None) -> Lodgment:
    """The lodgment, waiting before a closed door: the scheduler lets it through; it looks by itself as rarely as
    `patience` says.
    """
    door, cause = shut.door, shut.breaker.cause
    because = "" if cause is None else f" ({cause.code})"
    text = f"Not sent: {door.name} is not asked now{because}. It goes on by itself when the agency answers again."
    reason = Reason(door.code, text, Party.NOBODY if cause is None else cause.who)
    wake = max(now, shut.breaker.probe_at or now) + patience
    return row.moved(State.PARKED, due_at=wake, resume=State.SEALED, reason=reason, tally=tally)


def closed_until(until: datetime) -> Reason:
    """Why what the calendar forbids to send waits."""
    text = f"The agency's calendar says that it is closed until {until:%Y-%m-%d %H:%M} UTC. It goes on by itself then."
    return Reason(CLOSEDOWN, text, Party.NOBODY)
