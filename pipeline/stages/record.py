"""record: read the reply; write the outcome and its message events; decide what follows.

This is where a reply becomes an outcome: the channel reads the bytes, `decide` says what a failure means, one guarded
move writes it.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import structlog

from pipeline.broker.messages import outcome_event, read_step_message
from pipeline.broker.port import Delivery, Outgoing
from pipeline.channels.contract import Reply, Sent
from pipeline.ledger import artifacts, attempts, holds, lanes, lodgments, outcomes, payees, tokens
from pipeline.ledger.session import Tx
from pipeline.lodgment.decisions import Decision, RetryPolicy, Tally, decide, decide_after_question, decide_poll
from pipeline.lodgment.doors import is_down, is_turned_away, parked_at
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.holds import WAVE, WAVE_WITHIN, Hold, after_canary, reach_of
from pipeline.lodgment.lodgment import AGENCY_DELAYED, OUTCOME_LATE, OUTCOME_MISSING, Attempt, Lodgment, Reason
from pipeline.lodgment.outcome import MessageEvent, Outcome, Result, Severity
from pipeline.lodgment.states import FINAL, NEXT_STEP, State, Step
from pipeline.stages.contract import Context, Settled, onward
from pipeline.stages.doors import HTTP_ERROR, Answer, Doors, door_of
from pipeline.stages.turns import go_on

log = structlog.get_logger(__name__)

_FINAL_STATE: Mapping[Result, State] = {
    Result.ACCEPTED: State.ACCEPTED,
    Result.PARTIALLY_ACCEPTED: State.PARTIALLY_ACCEPTED,
    Result.REJECTED: State.REJECTED,
}


_NOT_TAKEN = frozenset({FailureClass.THEIR_PERMISSION, FailureClass.OUR_CREDENTIAL})
"""An outcome that says the sender may not: the document is sent again once it may, under the same reference. Had the
agency taken it after all, it answers that it has it."""


@dataclass(frozen=True, slots=True)
class _Read:
    """One finished attempt and what its reply, or the lack of one, says."""

    before: Lodgment
    attempt: Attempt
    verdict: Outcome | Failure


class Record:
    """The outcome worker's use case."""

    step = Step.RECORD

    def __init__(self, context: Context, at_once: int = artifacts.AT_ONCE) -> None:
        """Replies of a batch are held up to `at_once` bytes, and one beyond."""
        self._context = context
        self._at_once = at_once
        self._doors = Doors(context)

    async def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
        messages = [read_step_message(delivery.body) for delivery in batch]
        waiting = {message.attempt_id for message in messages if message.attempt_id is not None}
        publications: list[Outgoing] = []
        while waiting:
            read, later = await self._load(waiting)
            moves = self._moves(read)
            won, onwards = await self._store(list(moves.values()))
            publications += onwards
            publications += await self._said_before([one for one in read if one.before.id not in moves])
            await self._doors.heard([self._answer(one) for one in read if one.before.id in won and _unheard(one)])
            # Whoever moved the others in this instant did not have this reply: a verdict must not get lost over it.
            lost = moves.keys() - won
            waiting = later | {one.attempt.id for one in read if one.before.id in lost}
        yield Settled(tuple(batch), tuple(publications))

    def _answer(self, one: _Read) -> Answer:
        return Answer(one.before, door_of(self._context, one.before), one.verdict, one.attempt.started_at)

    async def _load(self, attempt_ids: Collection[UUID]) -> tuple[list[_Read], set[UUID]]:
        """Attempts with their replies, and the attempts whose replies are too large to be held beside these."""
        async with self._context.ledger.transaction(read_only=True) as tx:
            await self._doors.look(tx)
            finished = [a for a in (await attempts.load(tx, attempt_ids)).values() if a.finished_at is not None]
            rows = await lodgments.load(tx, {attempt.lodgment_id for attempt in finished})
            wanted = [a.reply_id for a in finished if a.reply_id is not None]
            replies = await artifacts.read_portion(tx, wanted, self._at_once)
            last = max(replies, default=None)
            later = {a.id for a in finished if last is not None and a.reply_id is not None and a.reply_id > last}
            finished = [a for a in finished if a.id not in later]
            compared = [a for a in finished if self._context.channels[rows[a.lodgment_id].channel].checks_receipts]
            heads = await artifacts.read_heads(tx, [a.envelope_id for a in compared])
            whom = await payees.load(tx, {a.lodgment_id for a in compared if a.reply_id is not None})
        read = []
        for one in finished:
            sent = Sent(rows[one.lodgment_id], heads.get(one.envelope_id, b""))
            verdict = self._read(sent, one, replies)
            if isinstance(verdict, Outcome) and verdict.events:
                verdict = _naming_payees(verdict, whom.get(one.lodgment_id, {}))
            read.append(_Read(sent.lodgment, one, verdict))
        return read, later

    def _moves(self, read: Sequence[_Read]) -> dict[UUID, tuple[_Read, Lodgment]]:
        """One move for each lodgment: of two attempts whose replies come together, the one with a verdict counts."""
        moves: dict[UUID, tuple[_Read, Lodgment]] = {}
        for one in read:
            after = self._after(one)
            if after is not None and (one.before.id not in moves or after.state in FINAL):
                moves[one.before.id] = one, after
        return moves

    def _read(self, sent: Sent, attempt: Attempt, replies: Mapping[UUID, bytes]) -> Outcome | Failure:
        if attempt.failure is not None or attempt.reply_id is None:
            assert attempt.failure is not None  # noqa: S101  - an exchange has a reply or a failure
            return attempt.failure
        reply = Reply(attempt.http_status or 0, attempt.content_type or "", replies[attempt.reply_id])
        return self._context.channels[sent.lodgment.channel].read_reply(reply, sent)

    async def _store(self, moves: Sequence[tuple[_Read, Lodgment]]) -> tuple[set[UUID], list[Outgoing]]:
        """The ids of the lodgments that were moved, and the messages that follow."""
        if not moves:
            return set(), []
        now = self._context.clock()
        async with self._context.ledger.transaction() as tx:
            await lanes.lock(tx, lanes.keys_of([after for _, after in moves if after.state in FINAL]))
            moves = await self._held_further(tx, moves, now)
            won = await lodgments.move(tx, [(one.before, after) for one, after in moves])
            stored = [(one, after) for one, after in moves if after.id in won]
            said = [(o.before.id, o.attempt.id, o.verdict) for o, _ in stored if isinstance(o.verdict, Outcome)]
            await outcomes.add(tx, said, now)
            await self._discard_stale_tokens(tx, [one for one, _ in stored])
            woken = await go_on(self._context, tx, [after for _, after in stored])
        publications = [onward(row) for row in woken]
        for one, after in stored:
            _tell(one, after)
            if isinstance(one.verdict, Failure):
                self._context.tell_unknown(one.before.channel, one.verdict)
            if after.state in NEXT_STEP:
                publications.append(onward(after))
            else:
                publications.append(outcome_event(after, _events(one.verdict), now))
        return won, publications

    def _after(self, one: _Read) -> Lodgment | None:
        """The lodgment as this attempt leaves it; None when the attempt has nothing more to say."""
        late = one.before.attempt_id != one.attempt.id or one.before.state is not State.SENDING
        if one.before.state in FINAL:
            return None
        if isinstance(one.verdict, Outcome) and one.verdict.result in _FINAL_STATE:
            # A verdict settles the lodgment whenever it comes, also while it is unknown, parked or held.
            return self._settled(one.before, one.verdict)
        if late:
            return None
        return self._waiting(one.before, one.attempt, one.verdict)

    def _settled(self, row: Lodgment, outcome: Outcome) -> Lodgment:
        after = row.moved(_FINAL_STATE[outcome.result], reason=_reason(outcome), tally=Tally())
        return replace(
            after,
            agency_reference=outcome.agency_reference or row.agency_reference,
            document_number=outcome.document_number,
            finished_at=self._context.clock(),
        )

    def _waiting(self, row: Lodgment, attempt: Attempt, verdict: Outcome | Failure) -> Lodgment:
        now, spread = self._context.clock(), self._context.spread()
        channel = self._context.channels[row.channel]
        policy = channel.policy(row.service, row.action)
        since = row.clock_from or attempt.started_at
        if isinstance(verdict, Outcome):
            known = replace(row, agency_reference=verdict.agency_reference or row.agency_reference)
            resume = State.RECEIVED if channel.asks(known) else State.SEALED
            decision = decide_poll(row.tally, policy, now, since=since, resume=resume, spread=spread)
            reason: Reason | None = _of_waiting(decision, policy, since, now)
        elif channel.asks(row):
            decision = decide_after_question(verdict, row.tally, policy, now, since=since, spread=spread)
            reason = Reason.of(verdict)
            if verdict.kind in _NOT_TAKEN:
                # The envelope at hand is the question: sent where documents go, it would lodge nothing.
                row = replace(row, agency_reference=None, envelope_id=None)
        else:
            decision, reason = decide(verdict, row.tally, policy, now, spread=spread), Reason.of(verdict)
            met_by_others = is_down(verdict) or is_turned_away(verdict)
            shut = self._doors.shut(row) if decision.state is State.PARKED and met_by_others else None
            if shut is not None:
                # It waits with the others, to be let through with them, and not for as long as it failed alone.
                return parked_at(row, shut, now, self._context.timing.door_patience, decision.tally)
        due_at = decision.due_at
        if decision.state in NEXT_STEP:
            due_at = now + self._context.timing.stuck_after
        after = row.moved(decision.state, due_at=due_at, resume=decision.resume, reason=reason, tally=decision.tally)
        if isinstance(verdict, Outcome):
            after = replace(after, agency_reference=verdict.agency_reference or row.agency_reference)
        return after

    async def _held_further(
        self, tx: Tx, moves: Sequence[tuple[_Read, Lodgment]], now: datetime
    ) -> list[tuple[_Read, Lodgment]]:
        """Set the holds that these refusals call for, and settle those for which one of these went first."""
        wanted = {one.before.id: hold for one, _ in moves if (hold := self._hold(one, now)) is not None}
        ids, new = await holds.establish(tx, list(wanted.values()))
        tried = await holds.probing(tx, [one.before.id for one, _ in moves])
        settled = []
        for one, _ in moves:
            hold = tried.get(one.before.id)
            if hold is not None and (state := after_canary(hold, one.verdict)) is not hold.state:
                settled.append(replace(hold, state=state, canary_id=None))
        await holds.change(tx, settled)
        for hold in settled:
            log.info("hold.settled", hold=str(hold.id), state=hold.state, code=hold.code, scope=hold.reach.scope)
        await self._tell_new(tx, new, now)
        after_holds = []
        for one, after in moves:
            hold = wanted.get(one.before.id)
            hold_id = None if hold is None else ids.get((hold.reach, hold.code))
            after_holds.append((one, replace(after, hold_id=hold_id) if after.state is State.HELD else after))
        return after_holds

    def _hold(self, one: _Read, now: datetime) -> Hold | None:
        """What this refusal holds beside its own lodgment."""
        failure = one.verdict
        if isinstance(failure, Outcome) or (reach := reach_of(failure, one.before)) is None:
            return None
        reason = Reason.of(failure)
        return Hold(
            self._context.new_id(), reach, failure.code, reason.text, failure.who, one.attempt.purpose, since=now
        )

    async def _tell_new(self, tx: Tx, new: Sequence[Hold], now: datetime) -> None:
        for hold in new:
            log.warning("hold.set", hold=str(hold.id), scope=hold.reach.scope, code=hold.code)
        employers = {hold.reach.key for hold in new if hold.reach.scope is Blast.EMPLOYER}
        if employers:
            lately = await holds.employers_since(tx, now - WAVE_WITHIN)
            if lately > WAVE >= lately - len(employers):
                log.warning("hold.wave", employers=lately, minutes=WAVE_WITHIN.total_seconds() / 60)

    async def _discard_stale_tokens(self, tx: Tx, stored: Sequence[_Read]) -> None:
        """A token that the agency refused must not be handed out again."""
        for one in stored:
            row = one.before
            stale = isinstance(one.verdict, Failure) and one.verdict.kind is FailureClass.STALE_TOKEN
            if stale and row.token_key is not None and row.token_expires_at is not None:
                await tokens.discard(tx, row.token_key, row.token_expires_at)

    async def _said_before(self, read: Sequence[_Read]) -> list[Outgoing]:
        """What followed from replies that were recorded already: the first telling may not have left."""
        told = {o.before.id: o for o in read if o.before.state in FINAL or o.before.attempt_id == o.attempt.id}
        if not told:
            return []
        async with self._context.ledger.transaction(read_only=True) as tx:
            return [
                onward(one.before)
                if one.before.state in NEXT_STEP
                # The lodgment may have moved on since it was read: the telling of that must stay the later one.
                else outcome_event(one.before, await outcomes.of(tx, one.before.id), _ended(one.attempt))
                for one in told.values()
            ]


def _ended(attempt: Attempt) -> datetime:
    assert attempt.finished_at is not None  # noqa: S101  - `_load` leaves out what is not finished
    return attempt.finished_at


def _unheard(one: _Read) -> bool:
    """Whether only its reply says how the agency's door is: all else was told when it was sent."""
    return one.attempt.failure is None and (one.attempt.http_status or 0) < HTTP_ERROR


def _of_waiting(decision: Decision, policy: RetryPolicy, since: datetime, now: datetime) -> Reason:
    """Why the outcome is still waited for, and whether that is still usual."""
    if decision.state is State.HELD:
        return _MISSING
    if policy.late_after is not None and policy.open_time(since, now) >= policy.late_after:
        hours = policy.late_after.total_seconds() / 3600
        text = f"The agency has the document and has not answered within {hours:g} hours. It is asked on by itself."
        return Reason(OUTCOME_LATE, text, Party.AGENCY)
    return Reason(AGENCY_DELAYED, "The agency has the document and has not finished processing it.")


def _naming_payees(outcome: Outcome, whom: Mapping[str, str]) -> Outcome:
    """The outcome with each event's payee, where its record is one of the document's."""
    events = tuple(
        replace(event, payee=whom.get(event.record)) if event.record is not None else event for event in outcome.events
    )
    return replace(outcome, events=events)


def _events(verdict: Outcome | Failure) -> tuple[MessageEvent, ...]:
    return verdict.events if isinstance(verdict, Outcome) else ()


def _reason(outcome: Outcome) -> Reason | None:
    """The gravest message event speaks for the outcome."""
    gravity = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFORMATION: 2}
    if not outcome.events:
        return None
    gravest = min(outcome.events, key=lambda event: gravity[event.severity])
    more = f" (and {len(outcome.events) - 1} more)" if len(outcome.events) > 1 else ""
    return Reason(gravest.code, f"{gravest.description}{more}", _who(outcome))


def _who(outcome: Outcome) -> Party:
    return Party.PRODUCER if outcome.result is Result.REJECTED else Party.NOBODY


_MISSING = Reason(
    OUTCOME_MISSING,
    "The agency has the document, and gave no outcome in all the time in which it is asked. Ask the agency about this"
    " reference before its retrieval window closes; releasing the lodgment asks again.",
    Party.OPERATOR,
)


def _tell(one: _Read, after: Lodgment) -> None:
    code = after.reason.code if after.reason is not None else None
    known = one.before.reason.code if one.before.reason is not None else None
    if code in {OUTCOME_LATE, OUTCOME_MISSING} and code != known:
        log.warning("record.outcome_late", lodgment=str(after.id), code=code, sent_at=str(after.sent_at))
    log.info("record.completed", lodgment=str(after.id), attempt=one.attempt.number, state=after.state, code=code)
