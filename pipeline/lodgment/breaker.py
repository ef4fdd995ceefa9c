"""When to ask a service that may be down: a breaker as a value, shared by all processes through the ledger.

closed ── too many failures ──▶ open ── probe time ──▶ probing ── any answer ──▶ ramping ── steps done ──▶ closed
                                 ▲                        │ no answer                │ failures in a row
                                 └────────────────────────┴──────────────────────────┘

Pure: the ledger locks the row, these functions say what becomes of it. Only failures of the service itself count.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from pipeline.lodgment.decisions import Delays
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.lodgment import Reason

CLOCK_TOLERANCE = timedelta(minutes=1)
"""What was noted further in the future than this was noted by a clock that has stepped back since."""
_EMPLOYERS = 100
"""So many are remembered as turned away; in a wave of more the breaker is open long since."""


class BreakerState(StrEnum):
    """Whether a service is asked."""

    CLOSED = "closed"
    """It is asked as the budget allows."""
    OPEN = "open"
    """Nothing is asked before the probe time."""
    PROBING = "probing"
    """One request is under way, to see."""
    RAMPING = "ramping"
    """It answers again, and is asked for a little more at each step."""


class BreakerScope(StrEnum):
    """What a breaker stands before."""

    STS = "sts"
    """A security token service, by its address."""
    CREDENTIAL = "credential"
    """A machine credential at the token service, by its id: opened by a refusal, probed only where there is demand."""
    CHANNEL = "channel"
    """An agency's door, by its name."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, when it probes, and how gently it closes. Data: one per channel and service."""

    consecutive: int = 8
    """Failures in a row that open it."""
    ratio: float = 0.5
    ratio_least: int = 20
    """It also opens when so many answers came within the window, and this share of them were failures."""
    window: timedelta = timedelta(seconds=60)
    probe: Delays = field(default=Delays(timedelta(seconds=5), 2, timedelta(minutes=5)))
    probe_patience: timedelta = timedelta(seconds=70)
    """A probe that is unanswered for so long is lost, and another one goes out: as long as a request's lease."""
    announced_cap: timedelta = timedelta(days=14)
    """An announced return time further away than this is not believed."""
    ramp: tuple[int, ...] = (10, 100)
    """Requests in each step after the one that probed; then as the budget allows."""
    ramp_every: timedelta = timedelta(seconds=2)
    ramp_failures: int = 3
    """Failures in a row that open it again while it ramps."""
    ramp_answered: float = 0.0
    """The share of a step's requests that must have been answered well before the next step: where answers take long,
    time alone proves nothing."""
    quiet: int = 500
    """So many questions in a row that one process had answered with "nothing yet" count as an outage; 0: never."""


CREDENTIAL_POLICY = BreakerPolicy(probe=Delays(timedelta(minutes=1), 2, timedelta(hours=1)))
"""A refused credential is probed by new demand only, and ever more rarely: a person must mend it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a service may be asked by all processes together: `rate` a second, `concurrency` at a time."""

    rate: float
    concurrency: int


@dataclass(frozen=True, slots=True)
class Breaker:
    """A breaker and the budget spent, as the ledger keeps them. `cause`, `opened_at`, `probe_at` until it closes."""

    state: BreakerState = BreakerState.CLOSED
    cause: Reason | None = None
    opened_at: datetime | None = None
    probe_at: datetime | None = None
    openings: int = 0
    """In a row, failed probes included: the probe delay grows with it."""
    consecutive: int = 0
    answers: int = 0
    failures: int = 0
    window_since: datetime | None = None
    step: int = 0
    step_since: datetime | None = None
    step_spent: int = 0
    allowance: float = 0.0
    allowed_at: datetime | None = None
    canary_id: UUID | None = None
    """Before an agency's door: the lodgment that goes first, whose answer alone decides while it is probed."""
    turned_away: tuple[str, ...] = ()
    """Employers turned away within the window: each has been counted once as a failure."""


@dataclass(frozen=True, slots=True)
class Admission:
    """How many requests may start now, and the breaker to which `spent` is then applied."""

    breaker: Breaker = field(repr=False)
    count: int


def admit(breaker: Breaker, policy: BreakerPolicy, budget: Budget, now: datetime, under_way: int) -> Admission:
    """How many requests the service may be sent now, while `under_way` are unanswered."""
    current = _refilled(_stepped(_on_time(breaker, now), policy, now), budget, now)
    room = min(budget.concurrency - under_way, int(current.allowance))
    match current.state:
        case BreakerState.OPEN | BreakerState.PROBING:
            room = min(room, 1 if may_probe(current, now) else 0)
        case BreakerState.RAMPING:
            room = min(room, policy.ramp[current.step] - current.step_spent)
        case BreakerState.CLOSED:
            pass
    return Admission(current, max(0, room))


def may_probe(breaker: Breaker, now: datetime) -> bool:
    """Whether a breaker that is not closed lets one request through."""
    probe_at = _on_time(breaker, now).probe_at
    return probe_at is not None and now >= probe_at


def spent(breaker: Breaker, policy: BreakerPolicy, now: datetime, count: int) -> Breaker:
    """After `count` requests were begun."""
    if not count:
        return breaker
    spent_one = replace(breaker, allowance=breaker.allowance - count)
    match breaker.state:
        case BreakerState.OPEN | BreakerState.PROBING:
            return replace(spent_one, state=BreakerState.PROBING, probe_at=now + policy.probe_patience)
        case BreakerState.RAMPING:
            return replace(spent_one, step_spent=breaker.step_spent + count)
        case BreakerState.CLOSED:
            return spent_one


def answered(
    breaker: Breaker,
    policy: BreakerPolicy,
    now: datetime,
    failure: Failure | None,
    spread: float,
    employer: str | None = None,
) -> Breaker:
    """After one answer: `failure` where it says that the service is down, None where the service did its work.

    A refusal of one employer or credential is an answer of a service that works. `employer`: the failure may be about
    this employer alone, so it counts once in a window, and many employers must meet it before it opens.
    """
    if employer is not None and _is_known(breaker, policy, now, employer):
        if breaker.state is BreakerState.CLOSED:
            return breaker
        failure = employer = None  # a ramp waits for answers, and this is one
    counted = _counted(breaker, policy, now, failed=failure is not None)
    if employer is not None:
        counted = replace(counted, turned_away=(*counted.turned_away, employer)[-_EMPLOYERS:])
    if failure is None:
        # What was begun before it opened proves nothing of now; the probe does.
        return _ramping(counted, now) if breaker.state is BreakerState.PROBING else counted
    match breaker.state:
        case BreakerState.CLOSED if _too_many(counted, policy):
            return opened(counted, policy, now, failure, spread)
        case BreakerState.RAMPING if counted.consecutive >= policy.ramp_failures:
            return opened(counted, policy, now, failure, spread)
        case BreakerState.PROBING:
            return opened(counted, policy, now, failure, spread)
        case _:
            return counted


def opened(breaker: Breaker, policy: BreakerPolicy, now: datetime, failure: Failure, spread: float) -> Breaker:
    """Open, or open again: the cause is the latest, the time is that of the first opening."""
    announced = failure.available_after
    probe_at = now + policy.probe.after(breaker.openings, spread)
    if announced is not None and now < announced <= now + policy.announced_cap:
        probe_at = announced + timedelta(seconds=30 * spread)
    return replace(
        breaker,
        state=BreakerState.OPEN,
        cause=Reason.of(failure),
        opened_at=breaker.opened_at or now,
        probe_at=probe_at,
        openings=breaker.openings + 1,
        consecutive=0,
        answers=0,
        failures=0,
        window_since=None,
        canary_id=None,
        turned_away=(),
    )


def probing(breaker: Breaker, now: datetime) -> Breaker:
    """Let one request through at once: a person says that the cause is mended, or there is new demand."""
    return replace(breaker, state=BreakerState.PROBING, probe_at=now)


def closed(breaker: Breaker) -> Breaker:
    """As if nothing had been; only the budget that was spent stays spent."""
    return Breaker(allowance=breaker.allowance, allowed_at=breaker.allowed_at)


def _ramping(breaker: Breaker, now: datetime) -> Breaker:
    first = replace(breaker, state=BreakerState.RAMPING, probe_at=None, canary_id=None, consecutive=0)
    return _at_step(first, 0, now)


def _at_step(breaker: Breaker, step: int, now: datetime) -> Breaker:
    return replace(breaker, step=step, step_since=now, step_spent=0, answers=0, failures=0, turned_away=())


def _stepped(breaker: Breaker, policy: BreakerPolicy, now: datetime) -> Breaker:
    """The next step of the ramp when its time has come and it was made use of, or nobody wants it; closed after the
    last.
    """
    if breaker.state is not BreakerState.RAMPING or breaker.step_since is None:
        return breaker
    if now < breaker.step_since + (policy.ramp_every if breaker.step_spent else policy.window):
        return breaker
    proved = breaker.answers - breaker.failures >= policy.ramp_answered * breaker.step_spent
    if not proved and now < breaker.step_since + policy.probe_patience:
        return breaker
    if breaker.step + 1 >= len(policy.ramp):
        return closed(breaker)
    return _at_step(breaker, breaker.step + 1, now)


def _refilled(breaker: Breaker, budget: Budget, now: datetime) -> Breaker:
    """The allowance grows by `rate` a second, up to one second's worth: no burst after a quiet hour."""
    most = max(1.0, budget.rate)
    if breaker.allowed_at is None:
        return replace(breaker, allowance=most, allowed_at=now)
    grown = breaker.allowance + budget.rate * max(0.0, (now - breaker.allowed_at).total_seconds())
    return replace(breaker, allowance=min(most, grown), allowed_at=now)


def _on_time(breaker: Breaker, now: datetime) -> Breaker:
    """When the clock has stepped back, times that were noted before mean nothing: what is open is probed now."""
    if breaker.opened_at is not None and breaker.opened_at > now + CLOCK_TOLERANCE:
        probe_at = None if breaker.probe_at is None else now
        breaker = replace(breaker, opened_at=now, probe_at=probe_at)
    if breaker.step_since is not None and breaker.step_since > now + CLOCK_TOLERANCE:
        breaker = replace(breaker, step_since=now)
    return breaker


def _counted(breaker: Breaker, policy: BreakerPolicy, now: datetime, *, failed: bool) -> Breaker:
    if breaker.state is not BreakerState.RAMPING and not _in_window(breaker, policy, now):
        breaker = replace(breaker, window_since=now, answers=0, failures=0, turned_away=())
    return replace(
        breaker,
        consecutive=breaker.consecutive + 1 if failed else 0,
        answers=breaker.answers + 1,
        failures=breaker.failures + failed,
    )


def _in_window(breaker: Breaker, policy: BreakerPolicy, now: datetime) -> bool:
    since = breaker.window_since
    return since is not None and since <= now < since + policy.window


def _is_known(breaker: Breaker, policy: BreakerPolicy, now: datetime, employer: str) -> bool:
    """Whether this employer's being turned away has been counted: in this window, or in this step of the ramp."""
    match breaker.state:
        case BreakerState.CLOSED:
            return employer in breaker.turned_away and _in_window(breaker, policy, now)
        case BreakerState.RAMPING:
            return employer in breaker.turned_away
        case BreakerState.OPEN | BreakerState.PROBING:
            return False


def _too_many(breaker: Breaker, policy: BreakerPolicy) -> bool:
    share = breaker.failures >= policy.ratio * breaker.answers
    return breaker.consecutive >= policy.consecutive or (breaker.answers >= policy.ratio_least and share)
