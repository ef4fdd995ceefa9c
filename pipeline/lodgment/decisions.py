"""What follows a failure: a pure function from failure, tally, policy and now."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pipeline.lodgment.failures import Failure, FailureClass
from pipeline.lodgment.states import State


@dataclass(frozen=True, slots=True)
class Delays:
    """A growing delay: `first`, then times `factor` each time, at most `cap`."""

    first: timedelta
    factor: float
    cap: timedelta

    def after(self, times: int, spread: float) -> timedelta:
        """The delay after `times` earlier waits; `spread` in [0, 1) adds up to a fifth, so that a crowd spreads."""
        grown = self.first.total_seconds() * self.factor ** min(times, 64)
        return timedelta(seconds=min(grown, self.cap.total_seconds()) * (1 + spread / 5))


@dataclass(frozen=True, slots=True)
class Closedown:
    """An announced time, from `start` until `end`, in which the agency answers about no document."""

    start: datetime
    end: datetime
    takes_documents: bool = True
    """Whether it takes documents in meanwhile."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How one channel and service retries. Limits count failures in a row that were charged to the lodgment."""

    not_sent: Delays = Delays(timedelta(seconds=2), 2, timedelta(minutes=15))
    unknown: Delays = Delays(timedelta(seconds=5), 3, timedelta(minutes=30))
    unknown_limit: int = 12
    unavailable: Delays = Delays(timedelta(seconds=30), 2, timedelta(minutes=30))
    announced_wait_cap: timedelta = timedelta(days=14)
    """An announced return time further away than this is not believed; the growing delay is used."""
    poll: Delays = Delays(timedelta(seconds=60), 2, timedelta(minutes=15))
    stale_token_limit: int = 3
    receipt_after: timedelta = timedelta(minutes=5)
    """How long the agency usually takes to say that it has what was sent: from then on people are told."""
    late_after: timedelta | None = None
    """How long an outcome usually takes at most: from then on people are told that it is late."""
    closing_after: timedelta | None = None
    """From then on people are told again, while there is still time before asking ends."""
    give_up_after: timedelta | None = None
    """How long an outcome is asked for; then a person must ask otherwise. Time in a closedown does not count."""
    closedowns: tuple[Closedown, ...] = ()
    expected: timedelta = timedelta(minutes=10)
    """From sending to outcome, as a rule: how early before its due date a lodgment must go."""

    def reopened(self, moment: datetime) -> datetime:
        """`moment`, or the end of the closedown that it lies in: when the agency answers about documents."""
        return _outside(moment, self.closedowns)

    def taken_from(self, moment: datetime) -> datetime:
        """`moment`, or the end of the closedown that it lies in: when the agency takes documents in."""
        return _outside(moment, [one for one in self.closedowns if not one.takes_documents])

    def open_time(self, since: datetime, until: datetime) -> timedelta:
        """How much of this time the agency was answering."""
        closed = (min(one.end, until) - max(one.start, since) for one in self.closedowns)
        return until - since - sum((max(time, timedelta(0)) for time in closed), timedelta(0))


def _outside(moment: datetime, closedowns: Iterable[Closedown]) -> datetime:
    for one in sorted(closedowns, key=lambda closedown: closedown.start):
        if one.start <= moment < one.end:
            moment = one.end
    return moment


@dataclass(frozen=True, slots=True)
class Tally:
    """What this lodgment has been through: `failures` charged in a row; `waits` that cost nothing, because the agency
    never saw it or has it (no connection, outages, polls).
    """

    failures: int = 0
    waits: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The state to go to, and the new tally. `due_at` and `resume` are set for states that the scheduler wakes."""

    state: State
    tally: Tally
    due_at: datetime | None = None
    resume: State | None = None


def decide(  # noqa: PLR0911  - one return for each row of the table
    failure: Failure,
    tally: Tally,
    policy: RetryPolicy,
    now: datetime,
    *,
    resume: State = State.SEALED,
    spread: float = 0.0,
) -> Decision:
    """One row per failure class (architecture, section 4). Holding is for what waiting cannot mend.

    `resume` is the state that a parked lodgment wakes in: `sealed` after a failed submission, `received` when no token
    could be had.
    """
    charged = Tally(tally.failures + 1, tally.waits)
    waited = Tally(tally.failures, tally.waits + 1)
    match failure.kind:
        case FailureClass.NOT_SENT:
            return Decision(State.PARKED, waited, now + policy.not_sent.after(tally.waits, spread), resume)
        case FailureClass.UNKNOWN if charged.failures > policy.unknown_limit:
            return Decision(State.HELD, charged)
        case FailureClass.UNKNOWN:
            return Decision(State.UNKNOWN, charged, now + policy.unknown.after(tally.failures, spread), State.SEALED)
        case FailureClass.UNAVAILABLE:
            return Decision(State.PARKED, waited, _back_at(failure, tally, policy, now, spread), resume)
        case FailureClass.STALE_TOKEN if charged.failures > policy.stale_token_limit:
            return Decision(State.HELD, charged)
        case FailureClass.STALE_TOKEN:
            return Decision(State.RECEIVED, charged)
        case FailureClass.DUPLICATE:
            return Decision(State.AWAITING, waited, now + policy.poll.after(tally.waits, spread), State.SEALED)
        case FailureClass.OUR_DOCUMENT | FailureClass.THEIR_PERMISSION | FailureClass.OUR_CREDENTIAL:
            return Decision(State.HELD, charged)


def decide_poll(
    tally: Tally,
    policy: RetryPolicy,
    now: datetime,
    *,
    since: datetime,
    resume: State = State.SEALED,
    spread: float = 0.0,
) -> Decision:
    """When to ask again about a lodgment that the agency has `since` then and has not finished; held once that was done
    for as long as the policy says.

    `resume` is where asking starts: `sealed` where the same bytes again are the question, `received` where it is a
    message of its own.
    """
    waited = Tally(0, tally.waits + 1)
    if policy.give_up_after is not None and policy.open_time(since, now) >= policy.give_up_after:
        return Decision(State.HELD, waited)
    wait = policy.poll.after(tally.waits, spread)
    due_at = now + wait
    reopened = policy.reopened(due_at)
    if reopened != due_at:
        # Everybody returns when a closedown ends: spread over as long as the longest wait.
        due_at = reopened + policy.poll.cap * spread
    return Decision(State.AWAITING, waited, due_at, resume)


def decide_after_question(
    failure: Failure, tally: Tally, policy: RetryPolicy, now: datetime, *, since: datetime, spread: float = 0.0
) -> Decision:
    """What follows a question that failed. The document is lodged whatever became of it, so it is never sent again:
    the same is asked later, and only what a person must mend holds.
    """
    match failure.kind:
        case FailureClass.STALE_TOKEN if tally.failures < policy.stale_token_limit:
            return Decision(State.RECEIVED, Tally(tally.failures + 1, tally.waits))
        case FailureClass.STALE_TOKEN | FailureClass.OUR_DOCUMENT:
            return Decision(State.HELD, Tally(tally.failures + 1, tally.waits))
        case FailureClass.THEIR_PERMISSION | FailureClass.OUR_CREDENTIAL:
            return Decision(State.HELD, Tally(tally.failures + 1, tally.waits))
    decision = decide_poll(tally, policy, now, since=since, resume=State.RECEIVED, spread=spread)
    announced = failure.available_after
    believable = announced is not None and now < announced <= now + policy.announced_wait_cap
    if decision.state is State.AWAITING and announced is not None and believable:
        return replace(decision, due_at=announced + policy.poll.first * spread)
    return decision


def _back_at(failure: Failure, tally: Tally, policy: RetryPolicy, now: datetime, spread: float) -> datetime:
    """The announced time plus up to a minute, or the growing delay when none is announced or it is absurd."""
    announced = failure.available_after
    if announced is not None and now < announced <= now + policy.announced_wait_cap:
        wait = announced - now
        return announced + min(wait / 10, timedelta(minutes=1)) * spread
    return now + policy.unavailable.after(tally.waits, spread)
