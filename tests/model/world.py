"""One job among two workers, a broker, a ledger and an agency: every order of effects, crash and lost message.

The lodgment is the real one and moves by `Lodgment.moved`; `decide` and `decide_poll` say what follows; `let_go` is
what release does. What is modelled is what the stages do around them, one effect at a time, and whatever may come
between two effects. Time is not: a lease ends only when its worker is gone, which `Timing.lease` sees to.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from pipeline.lodgment.decisions import RetryPolicy, Tally, decide, decide_poll
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.holds import let_go
from pipeline.lodgment.lodgment import IllegalTransitionError, Lodgment, Reason
from pipeline.lodgment.references import MessageReferenceNumber
from pipeline.lodgment.states import FINAL, NEXT_STEP, WAITING, State, Step
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id

POLICY = RetryPolicy(unknown_limit=1, stale_token_limit=1)
ROW = a_lodgment()
ENVELOPE = fresh_id()
_ATTEMPTS = [fresh_id() for _ in range(8)]
WHY = Reason("model.why", "A reason that a person can read.")


class Fault(StrEnum):
    """A defect to build in, which the explorer must find."""

    NONE = "none"
    ACK_BEFORE_COMMIT = "ack before commit"
    ACK_BEFORE_PUBLISH = "ack before publish"
    PUBLISH_BEFORE_COMMIT = "publish before commit"
    SEND_BEFORE_ATTEMPT = "send before the attempt is committed"
    NEW_REFERENCE = "a new reference for each attempt"
    JOB_NOT_KNOWN = "a job that comes again is taken again"
    MOVE_UNGUARDED = "a move that does not look at the version"
    LEASE_TOO_SHORT = "a lease that ends while its worker sends"
    LEASE_FORGOTTEN = "leases that nobody takes over"
    WAITING_FORGOTTEN = "waiting lodgments that nobody wakes"
    STUCK_FORGOTTEN = "lost messages that nobody repeats"
    UNKNOWN_IS_FAILED = "an unknown outcome taken for a rejection"
    FINAL_LEFT = "a late reply that changes what is final"
    CANCEL_SENT = "cancelling what was sent"


Verdict = State | FailureClass
"""What an attempt ended with: accepted, rejected, awaiting (the agency has it and answers later), or a failure."""
Message = tuple[Step, int | None]
"""A step's message; for `record`, of which attempt."""
TOLD: Message = (Step.QUARANTINE, None)
"""Stands for the outcome event."""


@dataclass(frozen=True)
class Trying:
    """An attempt on record."""

    reference: str
    ended: Verdict | None = None


@dataclass(frozen=True)
class Work:
    """A delivery in hand. `seen` is the row as it was read; `out` is what is to be published."""

    message: Message
    at: str
    seen: Lodgment | None = None
    attempt: int | None = None
    verdict: Verdict | None = None
    out: tuple[Message, ...] = ()


@dataclass(frozen=True)
class World:
    """Everything that there is; `key` tells two of them apart."""

    rows: tuple[Lodgment, ...] = ()
    attempts: tuple[Trying, ...] = ()
    queue: tuple[Message, ...] = ((Step.RECEIVE, None),)
    hands: tuple[Work | None, ...] = (None, None)
    processed: tuple[str, ...] = ()
    """References that the agency processed, each once: it answers repeats with the original."""
    answer: State | None = None
    told: bool = False
    dropped: bool = False
    left: int = 2
    """Troubles that may still come."""
    wrong: str = ""
    trail: tuple[str, ...] = field(default=(), compare=False)

    @property
    def row(self) -> Lodgment | None:
        return self.rows[0] if self.rows else None

    def key(self) -> tuple[object, ...]:
        """All that can matter later: of a row that was read, whether it is still the same; of waits, nothing."""
        now = None if self.row is None else self.row.version
        hands = [
            None if one is None else (one.message, one.at, _is_now(one.seen, now), one.attempt, one.verdict, one.out)
            for one in self.hands
        ]
        return (
            tuple(map(_brief, self.rows)), self.attempts, self.queue, tuple(sorted(hands, key=repr)), self.processed,
            self.answer, self.told, self.dropped, self.left, self.wrong,
        )  # fmt: skip


def _is_now(seen: Lodgment | None, version: int | None) -> bool:
    return (None if seen is None else seen.version) == version


def _brief(row: Lodgment) -> tuple[object, ...]:
    attempt = None if row.attempt_id is None else _ATTEMPTS.index(row.attempt_id)
    asleep = (row.due_at is None, row.resume, row.reason is None)
    return row.state, row.tally.failures, row.sent_at is None, attempt, row.envelope_id is None, asleep


@dataclass(frozen=True)
class Worlds:
    """Worlds by key, and for each the keys of those from which it follows without any trouble."""

    seen: dict[tuple[object, ...], World]
    before: dict[tuple[object, ...], list[tuple[object, ...]]]


class Explorer:
    """Every world that can be reached, with one defect built in or none."""

    def __init__(self, fault: Fault = Fault.NONE, troubles: int = 2) -> None:
        self._fault = fault
        self.start = World(left=troubles)

    def explore(self) -> Worlds:
        """Every world up to the first one that is `wrong`."""
        found = Worlds({self.start.key(): self.start}, {})
        todo = deque([self.start])
        while todo:
            world = todo.popleft()
            for after in self.steps(world):
                key = after.key()
                if after.left == world.left:
                    found.before.setdefault(key, []).append(world.key())
                if key not in found.seen:
                    found.seen[key] = after
                    if after.wrong:
                        return found
                    todo.append(after)
        return found

    def steps(self, world: World) -> Iterator[World]:
        """Whatever can happen next."""
        for number, work in enumerate(world.hands):
            if work is None:
                yield from self._takes(world, number)
            else:
                yield from self._works(world, number, work)
                if world.left:
                    yield _noted(self._crashed(world, number, work), f"worker {number} dies")
        yield from self._sweeps(world)
        if world.left:
            yield from self._troubles(world)

    def _takes(self, world: World, number: int) -> Iterator[World]:
        if number and world.hands[0] is None:
            return  # the two are alike
        for message in dict.fromkeys(world.queue):
            taken = replace(world, queue=_without(world.queue, message))
            yield _noted(_in_hand(taken, number, Work(message, "read")), f"worker {number} takes {message}")

    def _works(self, world: World, number: int, work: Work) -> Iterator[World]:
        match work.at:
            case "read":
                first = "sent" if self._sends_first(world, work) else "commit"
                if self._fault is Fault.ACK_BEFORE_COMMIT:
                    first = "acked, commit"
                if self._fault is Fault.PUBLISH_BEFORE_COMMIT:
                    out = self._follows(world, work)[2]
                    yield self._published(_in_hand(world, number, replace(work, at="commit", seen=world.row)), out)
                    return
                attempt = len(world.attempts) if first == "sent" else None
                yield _in_hand(world, number, replace(work, at=first, seen=world.row, attempt=attempt))
            case "commit" | "acked, commit":
                yield from self._commits(world, number, work)
            case "sent":
                yield from self._sends(world, number, work)
            case "store":
                assert work.attempt is not None
                attempts = _ended(world.attempts, work.attempt, work.verdict)
                onward = ((Step.RECORD, work.attempt),)
                yield self._then_publishes(replace(world, attempts=attempts), number, work, onward)
            case "publish":
                done = _in_hand(world, number, replace(work, at="ack", out=()))
                yield _noted(self._published(done, work.out), f"worker {number} publishes {work.out}")
            case _:
                yield _in_hand(world, number, None)

    def _sends_first(self, world: World, work: Work) -> bool:
        row = world.row
        mutant = self._fault is Fault.SEND_BEFORE_ATTEMPT
        return mutant and work.message[0] is Step.SUBMIT and row is not None and row.state is State.SEALED

    def _commits(self, world: World, number: int, work: Work) -> Iterator[World]:
        rows, attempts, out, claimed = self._follows(world, work)
        now = world.row
        guarded = self._fault is not Fault.MOVE_UNGUARDED
        if guarded and now is not None and (work.seen is None or work.seen.version != now.version):
            # Somebody else moved it since it was read: read again, as `record` does and a redelivery makes others do.
            yield _in_hand(world, number, replace(work, at="read"))
            return
        after = _judged(world, replace(world, rows=rows, attempts=attempts))
        label = f"worker {number} commits {work.message[0]}: {after.row.state if after.row else None}"
        if claimed is not None:
            yield _noted(_in_hand(after, number, replace(work, at="sent", attempt=claimed)), label)
        elif work.at == "acked, commit":
            yield _noted(self._published(_in_hand(after, number, None), out), label)
        else:
            yield _noted(self._then_publishes(after, number, work, out), label)

    def _then_publishes(self, world: World, number: int, work: Work, out: tuple[Message, ...]) -> World:
        if self._fault is Fault.ACK_BEFORE_PUBLISH:
            # The message is done with; what follows from it is in this process alone.
            return _in_hand(world, number, Work((Step.QUARANTINE, None), "publish", out=out))
        if self._fault is Fault.PUBLISH_BEFORE_COMMIT:
            out = ()
        return _in_hand(world, number, replace(work, at="publish" if out else "ack", out=out))

    def _published(self, world: World, out: tuple[Message, ...]) -> World:
        row = world.row
        for message in out:
            if message == TOLD:
                if row is None or row.state not in FINAL:
                    return replace(world, wrong="told an outcome that is not in the ledger")
                world = replace(world, told=True)
            elif row is None:
                return replace(world, wrong="queued a step of a lodgment that is not in the ledger")
            elif world.queue.count(message) < 2:
                world = replace(world, queue=tuple(sorted((*world.queue, message), key=repr)))
        return world

    def _follows(  # noqa: PLR0911  - one return for each step and what it finds
        self, world: World, work: Work
    ) -> tuple[tuple[Lodgment, ...], tuple[Trying, ...], tuple[Message, ...], int | None]:
        """What this delivery leads to: rows, attempts, messages, and the attempt that is claimed."""
        step, attempt = work.message
        rows, attempts = world.rows, world.attempts
        # The unguarded one goes by what it read, however old that is.
        row = work.seen if self._fault is Fault.MOVE_UNGUARDED and work.seen is not None else world.row
        if step is Step.RECEIVE:
            if row is None:
                return (ROW,), attempts, ((Step.AUTHORISE, None),), None
            if self._fault is Fault.JOB_NOT_KNOWN:
                other = replace(ROW, reference=MessageReferenceNumber("another"))
                return (*rows, other), attempts, (), None
            return rows, attempts, _again(row), None
        if row is None:
            return rows, attempts, (), None
        if step is Step.RECORD:
            assert attempt is not None
            after = self._recorded(row, attempts, attempt)
            return ((after, *rows[1:]) if after else rows), attempts, _again(after or row), None
        if NEXT_STEP.get(row.state) is not step:
            ended = row.state is State.SENDING and _latest(row, attempts).ended is not None
            if ended and step is Step.SUBMIT:
                return rows, attempts, ((Step.RECORD, _number(row)),), None
            return rows, attempts, _again(row) if row.state in NEXT_STEP else (), None
        match step:
            case Step.AUTHORISE:
                after = row.moved(State.AUTHORISED, due_at=NOW)
            case Step.SEAL:
                after = replace(row.moved(State.SEALED, due_at=NOW), envelope_id=ENVELOPE)
            case _:
                number = len(attempts)
                after = replace(
                    row.moved(State.SENDING, due_at=NOW, reason=row.reason),
                    attempt_id=_ATTEMPTS[number], attempts=number + 1, sent_at=row.sent_at or NOW,
                )  # fmt: skip
                reference = f"{number}" if self._fault is Fault.NEW_REFERENCE else str(row.reference)
                return (after, *rows[1:]), (*attempts, Trying(reference)), (), number
        return (after, *rows[1:]), attempts, _again(after), None

    def _recorded(self, row: Lodgment, attempts: tuple[Trying, ...], attempt: int) -> Lodgment | None:
        """As `Record` has it: a verdict settles whenever it comes, everything else only what waits for it."""
        verdict = attempts[attempt].ended
        if verdict is FailureClass.UNKNOWN and self._fault is Fault.UNKNOWN_IS_FAILED:
            verdict = State.REJECTED
        leaves = self._fault is Fault.FINAL_LEFT and row.state is State.ACCEPTED and row.sent_at is not None
        if leaves:
            return replace(row, state=State.RECEIVED, version=row.version + 1, due_at=NOW)
        if verdict is None or row.state in FINAL:
            return None
        if verdict in {State.ACCEPTED, State.REJECTED}:
            assert isinstance(verdict, State)
            return row.moved(verdict, reason=WHY, tally=Tally())
        if row.state is not State.SENDING or _number(row) != attempt:
            return None
        if isinstance(verdict, FailureClass):
            decision = decide(_failure(verdict), row.tally, POLICY, NOW)
        else:
            decision = decide_poll(row.tally, POLICY, NOW, since=NOW)
        due_at: datetime | None = NOW if decision.state in NEXT_STEP else decision.due_at
        return row.moved(decision.state, due_at=due_at, resume=decision.resume, reason=WHY, tally=decision.tally)

    def _sends(self, world: World, number: int, work: Work) -> Iterator[World]:
        """The request leaves; the agency may process it, and the answer may come."""
        assert work.attempt is not None
        if work.attempt >= len(world.attempts):
            yield replace(world, wrong="sent without a committed attempt")
            return
        under_way = [one for one in world.hands if one is not None and one.at == "sent"]
        row = world.row
        lost = row is None or row.state is not State.SENDING or _number(row) != work.attempt
        if len(under_way) > 1 or lost:
            yield replace(world, wrong="two workers send one reference, or one sends what another has taken over")
            return
        reference = world.attempts[work.attempt].reference
        has_it = reference in world.processed
        done = world if has_it else replace(world, processed=(*world.processed, reference))
        for answer in (world.answer,) if world.answer else (State.ACCEPTED, State.REJECTED):
            yield _answered(replace(done, answer=answer), number, work, answer)
        if not world.left:
            return
        less, done = replace(world, left=world.left - 1), replace(done, left=world.left - 1)
        yield _answered(done, number, work, FailureClass.UNKNOWN)
        yield _answered(done, number, work, State.AWAITING)
        for kind in (FailureClass.UNKNOWN, FailureClass.NOT_SENT, FailureClass.UNAVAILABLE, FailureClass.STALE_TOKEN):
            yield _answered(less, number, work, kind)
        yield _answered(less, number, work, FailureClass.OUR_DOCUMENT)
        if has_it:
            yield _answered(less, number, work, FailureClass.DUPLICATE)

    def _crashed(self, world: World, number: int, work: Work) -> World:
        """Its delivery goes back, unless it was acknowledged; what it had in memory is gone."""
        gone = replace(_in_hand(world, number, None), left=world.left - 1)
        if work.at.startswith("acked") or work.message == TOLD:
            return gone
        return replace(gone, queue=tuple(sorted((*gone.queue, work.message), key=repr)))

    def _sweeps(self, world: World) -> Iterator[World]:
        """The scheduler: wakes what waits, repeats what is stuck, takes over what a dead worker had."""
        row = world.row
        if row is None:
            return
        idle = not world.queue and not any(world.hands)  # `stuck_after` is long past
        if row.state in WAITING and row.due_at is not None and self._fault is not Fault.WAITING_FORGOTTEN:
            after = row.moved(row.resume or State.RECEIVED, due_at=NOW, reason=row.reason)
            yield _noted(self._published(replace(world, rows=(after, *world.rows[1:])), _again(after)), "woken")
        step = NEXT_STEP.get(row.state)
        if step is not None and idle and self._fault is not Fault.STUCK_FORGOTTEN:
            yield _noted(self._published(world, ((step, None),)), "repeated")
        if row.state is State.SENDING and self._fault is not Fault.LEASE_FORGOTTEN:
            mine = _number(row)
            at_it = [one for one in world.hands if one is not None and one.attempt == mine]
            message = (Step.RECORD, mine)
            if not idle and not (self._fault is Fault.LEASE_TOO_SHORT and at_it and not world.queue):
                return
            lost = world.attempts[mine].ended is None
            attempts = _ended(world.attempts, mine, FailureClass.UNKNOWN) if lost else world.attempts
            yield _noted(self._published(replace(world, attempts=attempts), (message,)), "lease taken over")

    def _troubles(self, world: World) -> Iterator[World]:
        less = replace(world, left=world.left - 1)
        for message in dict.fromkeys(world.queue):
            if world.queue.count(message) < 2:
                twice = tuple(sorted((*world.queue, message), key=repr))
                yield _noted(replace(less, queue=twice), f"{message} comes twice")
            if message[0] is not Step.RECEIVE:
                once = _without(world.queue, message)
                yield _noted(replace(less, queue=once, dropped=True), f"{message} is lost")
        row = world.row
        if row is None:
            return
        if row.state is State.HELD:
            after = let_go(row, NOW, WHY)
            yield _noted(self._published(replace(less, rows=(after, *world.rows[1:])), _again(after)), "released")
        try:
            sent = None if self._fault is Fault.CANCEL_SENT else row.sent_at
            after = replace(replace(row, sent_at=sent).moved(State.CANCELLED, reason=WHY), sent_at=row.sent_at)
        except IllegalTransitionError:
            return
        yield _noted(_judged(world, replace(less, rows=(after, *world.rows[1:]), told=True)), "cancelled")


def settled(world: World) -> bool:
    """Final and told, or with a person and a reason."""
    row = world.row
    if row is None:
        return False
    told = world.told or world.dropped
    return (row.state in FINAL and told) or (row.state is State.HELD and row.reason is not None)


def _judged(before: World, after: World) -> World:
    """The promises that a commit could break."""
    old, new = before.row, after.row
    if old is not None and new is not None and old.state in FINAL and new.state is not old.state:
        return replace(after, wrong=f"{old.state} was final and is {new.state}")
    if len(after.rows) > 1 or len({one.reference for one in after.attempts}) > 1:
        return replace(after, wrong="two references for one job")
    if new is not None and new.state is State.CANCELLED and after.attempts:
        return replace(after, wrong="cancelled, and it was sent")
    if new is not None and new.state is State.REJECTED and after.answer is not State.REJECTED:
        return replace(after, wrong="rejected, and the agency did not say so")
    if new is not None and new.state is State.ACCEPTED and after.answer is not State.ACCEPTED:
        return replace(after, wrong="accepted, and the agency did not say so")
    return after


def _answered(world: World, number: int, work: Work, verdict: Verdict) -> World:
    return _noted(_in_hand(world, number, replace(work, at="store", verdict=verdict)), f"the agency: {verdict}")


def _again(row: Lodgment) -> tuple[Message, ...]:
    if row.state in FINAL:
        return (TOLD,)
    return ((NEXT_STEP[row.state], None),) if row.state in NEXT_STEP else ()


def _ended(attempts: tuple[Trying, ...], number: int, verdict: Verdict | None) -> tuple[Trying, ...]:
    """An attempt is completed once; what comes later is kept only where the scheduler gave it up (`worker.lost`)."""
    return tuple(replace(one, ended=verdict) if place == number else one for place, one in enumerate(attempts))


def _number(row: Lodgment) -> int:
    assert row.attempt_id is not None
    return _ATTEMPTS.index(row.attempt_id)


def _latest(row: Lodgment, attempts: tuple[Trying, ...]) -> Trying:
    return attempts[_number(row)]


def _failure(kind: FailureClass) -> Failure:
    return Failure(kind, "model.failure", "", "What it means.", Party.NOBODY)


def _in_hand(world: World, number: int, work: Work | None) -> World:
    return replace(world, hands=tuple(work if place == number else one for place, one in enumerate(world.hands)))


def _without(queue: tuple[Message, ...], message: Message) -> tuple[Message, ...]:
    place = queue.index(message)
    return queue[:place] + queue[place + 1 :]


def _noted(world: World, what: str) -> World:
    return replace(world, trail=(*world.trail, what))
