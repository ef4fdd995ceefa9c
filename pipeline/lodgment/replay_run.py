"""A replay as it runs: who may press what, in which stages it goes, how fast, and when it halts itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.lodgment import BREAKER_OPEN, BREAKER_POLLS, CLOSEDOWN, TOKEN_REQUESTED, Lodgment
from pipeline.lodgment.replay import TURNS, Mode
from pipeline.lodgment.replay_pace import Pace, PacePolicy
from pipeline.lodgment.states import NEXT_STEP, State

RATE = 20.0
"""Lodgments a second, where nothing else is said."""
HALT_SHARE = 0.1
AT_DOOR = frozenset({BREAKER_OPEN, BREAKER_POLLS})
"""Parked before an agency's door that is closed: it goes on by itself, and is waited for however long that takes."""
QUIET = TURNS | AT_DOOR | {TOKEN_REQUESTED, CLOSEDOWN}
"""Reasons for being parked that say nothing about whether the replay mended anything."""
UNSENT = AT_DOOR | {TOKEN_REQUESTED}
"""Reasons for being parked on the way to the agency, where others would wait behind."""


class ReplayState(StrEnum):
    """Where a replay is."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    HALTED = "halted"
    """By itself: the same failure came back."""
    CANCELLED = "cancelled"
    DONE = "done"


class ItemState(StrEnum):
    """Where one lodgment of a replay is."""

    BARRED = "barred"
    """Not legal when the list was frozen."""
    WAITING = "waiting"
    STARTED = "started"
    ENDED = "ended"
    SKIPPED = "skipped"
    """Not legal any more when its turn came."""
    DROPPED = "dropped"
    """The replay was cancelled before its turn."""


@dataclass(frozen=True, slots=True)
class ReplayPolicy:
    """How replays run. `rate` and `halt_share` are what a replay takes that was given none of its own."""

    stages: tuple[int, ...] = (1, 10, 100)
    """So many go out in each of the first stages, which must have ended before the next begins; then the rest."""
    rate: float = RATE
    """Lodgments a second."""
    halt_share: float = HALT_SHARE
    """Halts when one failure has met so large a share of those that ended last."""
    sample: int = 100
    """The share is taken of so many at least, or of the stage where that is smaller."""
    recent: int = 1000
    """The share is taken of so many at most, the last that ended."""
    patience: timedelta = timedelta(minutes=5)
    """What waits for a token, a turn or the agency's outcome for so long counts as ended: a stage does not wait for it
    any longer."""
    portion: int = 500
    """So many at most in one transaction."""
    burst: timedelta = timedelta(seconds=1)
    """What the rate has not used is kept for so long."""
    ahead: timedelta = timedelta(seconds=0.25)
    """So many as the rate lets out in this time may be on their way and not yet sent: when the workers are slower than
    that, live work would wait behind more."""
    starved_after: timedelta = timedelta(seconds=1)
    """Live work goes first; but one of a replay goes out each time it has waited for room so long."""
    pace: PacePolicy = field(default_factory=PacePolicy)
    """How it keeps live work from becoming slower."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A row of the table `replay`. Its counters are of items: `total` could be replayed when the list was frozen."""

    id: UUID
    created_at: datetime
    created_by: str
    reason: str
    selection: str
    mode: Mode
    state: ReplayState = ReplayState.PLANNED
    rate: float = RATE
    halt_share: float = HALT_SHARE
    total: int = 0
    barred: int = 0
    approved_by: str | None = None
    approved_at: datetime | None = None
    started_by: str | None = None
    started_at: datetime | None = None
    stage: int = 0
    stage_started: int = 0
    started: int = 0
    ended: int = 0
    failed: int = 0
    skipped: int = 0
    cursor: UUID | None = None
    """The last lodgment whose turn came: they go in the order of their ids, the oldest first."""
    paced_at: datetime | None = None
    """Up to when the rate is used up."""
    judged_since: datetime | None = None
    """What ended before does not count for halting: somebody looked at it and resumed."""
    halt_code: str | None = None
    finished_at: datetime | None = None
    pace: Pace | None = None
    """None until it runs."""

    @property
    def speed(self) -> float:
        """Lodgments a second that it may start now: `rate` at most."""
        return self.rate if self.pace is None else min(self.rate, self.pace.speed)

    @property
    def left(self) -> int:
        """How many have not had their turn."""
        return self.total - self.started - self.skipped

    @property
    def open(self) -> int:
        """How many are on their way."""
        return self.started - self.ended

    @property
    def needs_approval(self) -> bool:
        """Whether a second person must still approve it."""
        return self.mode is Mode.NEW_REFERENCE and self.approved_by is None


@dataclass(frozen=True, slots=True)
class End:
    """In what one replayed lodgment ended, for now: it may still go on by itself."""

    state: State
    code: str | None
    failed: bool


@dataclass(frozen=True, slots=True)
class Recent:
    """What ended last in a stage: how many, and how many of them by each failure's code."""

    ended: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)


def approved(one: Replay, who: str, now: datetime) -> Replay:
    """The replay, approved by a second person.

    Raises:
        RefusedError: `replay.state`, `replay.approval` where none is needed, `replay.second-person`.
    """
    _require(one, "approve", ReplayState.PLANNED)
    if one.mode is not Mode.NEW_REFERENCE:
        raise RefusedError("replay.approval", f"{one.id} keeps every reference: it needs no second person")
    if one.approved_by is not None:
        raise RefusedError("replay.approval", f"{one.id} was approved by {one.approved_by} already")
    if _person(who) == _person(one.created_by):
        text = f"{one.id} was planned by {one.created_by}: somebody else must look at it and approve it"
        raise RefusedError("replay.second-person", text)
    return replace(one, approved_by=who, approved_at=now)


def started(one: Replay, who: str, now: datetime, rate: float | None, halt_share: float | None) -> Replay:
    """The replay, running from its first stage.

    Raises:
        RefusedError: `replay.state`, `replay.approval`, `replay.empty`.
    """
    _require(one, "start", ReplayState.PLANNED)
    if one.needs_approval:
        text = f"{one.id} would lodge under new references: a second person must first `lodge replay approve {one.id}`"
        raise RefusedError("replay.approval", text)
    if not one.total:
        raise RefusedError("replay.empty", f"{one.id}: none of its lodgments may be replayed that way")
    begun = replace(one, started_by=who, started_at=now, rate=rate or one.rate, halt_share=halt_share or one.halt_share)
    return replace(begun, state=ReplayState.RUNNING, judged_since=now)


def paused(one: Replay) -> Replay:
    """The replay, starting nothing more for now; what is on its way goes on.

    Raises:
        RefusedError: `replay.state`.
    """
    _require(one, "pause", ReplayState.RUNNING)
    return replace(one, state=ReplayState.PAUSED)


def resumed(one: Replay, now: datetime, rate: float | None, halt_share: float | None) -> Replay:
    """The replay, running where it stopped; what ended until now does not halt it again.

    Raises:
        RefusedError: `replay.state`.
    """
    _require(one, "resume", ReplayState.PAUSED, ReplayState.HALTED)
    changed = replace(one, rate=rate or one.rate, halt_share=halt_share or one.halt_share)
    return replace(changed, state=ReplayState.RUNNING, judged_since=now, halt_code=None)


def cancelled(one: Replay, now: datetime) -> Replay:
    """The replay, over; what is on its way goes on.

    Raises:
        RefusedError: `replay.state`.
    """
    _require(one, "cancel", ReplayState.PLANNED, ReplayState.RUNNING, ReplayState.PAUSED, ReplayState.HALTED)
    return replace(one, state=ReplayState.CANCELLED, finished_at=now)


def ended(row: Lodgment, started_at: datetime, now: datetime, policy: ReplayPolicy) -> End | None:
    """In what a replayed lodgment ended; None while it is on its way."""
    code = None if row.reason is None else row.reason.code
    match row.state:
        case State.ACCEPTED | State.PARTIALLY_ACCEPTED:
            return End(row.state, code, failed=False)
        case State.PARKED if code in AT_DOOR:
            return None
        case state if state is State.AWAITING or (state is State.PARKED and code in QUIET):
            late = now - started_at >= policy.patience
            return End(row.state, code, failed=False) if late else None
        case state if state in NEXT_STEP or state is State.SENDING:
            return None
    return End(row.state, code, failed=True)


def size_of(one: Replay, policy: ReplayPolicy) -> int:
    """How many go out in the stage that the replay is in."""
    rest = one.stage_started + one.left
    return min(policy.stages[one.stage], rest) if one.stage < len(policy.stages) else rest


def stage_over(one: Replay, policy: ReplayPolicy) -> bool:
    """Whether everything of this stage went out and ended."""
    return one.stage_started >= size_of(one, policy) and one.open == 0


def halted_by(recent: Recent, one: Replay, policy: ReplayPolicy) -> str | None:
    """The code of the failure that came back too often in this stage, or None."""
    if not recent.failures:
        return None
    code, count = max(recent.failures.items(), key=lambda item: (item[1], item[0]))
    basis = max(recent.ended, min(size_of(one, policy), policy.sample))
    return code if count >= one.halt_share * basis else None


def room_left(one: Replay, room: int, unsent: int, policy: ReplayPolicy) -> int:
    """How many more may be put on their way: `room` is what the queues have, `unsent` how many of this replay no worker
    has sent yet.
    """
    return min(room, max(1, math.ceil(one.speed * policy.ahead.total_seconds())) - unsent)


def allowance(one: Replay, now: datetime, room: int, policy: ReplayPolicy) -> int:
    """How many may go out now: what the rate, the stage and the room that live work leaves allow."""
    if room <= 0 and now - (one.paced_at or one.started_at or now) >= policy.starved_after:
        room = 1
    paced = int((now - _paced_since(one, now, policy)).total_seconds() * one.speed + 1e-6)
    return max(0, min(paced, room, policy.portion, size_of(one, policy) - one.stage_started, one.left))


def paced(one: Replay, now: datetime, used: int, room: int, policy: ReplayPolicy) -> Replay:
    """The replay after `used` of its allowance; one that went out although there was no room saves nothing up."""
    if not used:
        return one
    if room <= 0:
        return replace(one, paced_at=now)
    since = _paced_since(one, now, policy)
    return replace(one, paced_at=since + timedelta(seconds=used / one.speed))


def _paced_since(one: Replay, now: datetime, policy: ReplayPolicy) -> datetime:
    each = timedelta(seconds=1 / one.speed)
    if one.paced_at is None:
        return now - each
    return max(one.paced_at, now - max(policy.burst, each))


def _person(who: str) -> str:
    """The user, wherever they sit: `ana@desk` and `ana@bastion` are one person."""
    return who.partition("@")[0].casefold()


def _require(one: Replay, verb: str, *states: ReplayState) -> None:
    if one.state not in states:
        allowed = " or ".join(states)
        raise RefusedError("replay.state", f"{one.id} is {one.state}: to {verb} it, it must be {allowed}")
