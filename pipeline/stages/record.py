"""record: read the reply; write the outcome and its message events; decide what follows.

This is where a reply becomes an outcome: the channel reads the bytes, `decide` says what a failure means, one guarded
move writes it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import structlog

from pipeline.broker.messages import outcome_event, read_step_message
from pipeline.broker.port import Delivery, Outgoing
from pipeline.ledger import artifacts, attempts, lodgments, outcomes, tokens
from pipeline.ledger.session import Tx
from pipeline.lodgment.decisions import Tally, decide, decide_poll
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.lodgment import Attempt, Lodgment, Reason
from pipeline.lodgment.outcome import MessageEvent, Outcome, Result, Severity
from pipeline.lodgment.states import FINAL, NEXT_STEP, State, Step
from pipeline.stages.contract import Context, Settled, onward

log = structlog.get_logger(__name__)

_FINAL_STATE: Mapping[Result, State] = {
    Result.ACCEPTED: State.ACCEPTED,
    Result.PARTIALLY_ACCEPTED: State.PARTIALLY_ACCEPTED,
    Result.REJECTED: State.REJECTED,
}


@dataclass(frozen=True, slots=True)
class _Read:
    """One finished attempt and what its reply, or the lack of one, says."""

    before: Lodgment
    attempt: Attempt
    verdict: Outcome | Failure


class Record:
    """The outcome worker's use case."""

    step = Step.RECORD

    def __init__(self, context: Context) -> None:
        self._context = context

    async def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
        messages = [read_step_message(delivery.body) for delivery in batch]
        wanted = {message.attempt_id for message in messages if message.attempt_id is not None}
        async with self._context.ledger.transaction(read_only=True) as tx:
            finished = [a for a in (await attempts.load(tx, wanted)).values() if a.finished_at is not None]
            rows = await lodgments.load(tx, {message.lodgment_id for message in messages})
            replies = await artifacts.read(tx, [a.reply_id for a in finished if a.reply_id is not None])
        read = [_Read(rows[a.lodgment_id], a, self._read(rows[a.lodgment_id], a, replies)) for a in finished]
        publications = await self._store(read)
        publications += await self._said_before([row for row in rows.values() if row.state in FINAL])
        yield Settled(tuple(batch), tuple(publications))

    def _read(self, row: Lodgment, attempt: Attempt, replies: Mapping[UUID, bytes]) -> Outcome | Failure:
        if attempt.failure is not None or attempt.reply_id is None:
            assert attempt.failure is not None  # noqa: S101  - an exchange has a reply or a failure
            return attempt.failure
        channel = self._context.channels[row.channel]
        return channel.read_reply(
            attempt.http_status or 0, attempt.content_type or "", replies[attempt.reply_id], row.reference
        )

    async def _store(self, read: Sequence[_Read]) -> list[Outgoing]:
        moves = {one.attempt.id: (one.before, after) for one in read if (after := self._after(one)) is not None}
        if not moves:
            return []
        now = self._context.clock()
        async with self._context.ledger.transaction() as tx:
            won = await lodgments.move(tx, list(moves.values()))
            stored = [one for one in read if one.attempt.id in moves and one.before.id in won]
            said = [(o.before.id, o.attempt.id, o.verdict) for o in stored if isinstance(o.verdict, Outcome)]
            await outcomes.add(tx, said, now)
            await self._discard_stale_tokens(tx, stored)
            woken = await self._next_in_lane(tx, [moves[one.attempt.id][1] for one in stored])
        publications = [onward(row) for row in woken]
        for one in stored:
            after = moves[one.attempt.id][1]
            _tell(one, after)
            if after.state in NEXT_STEP:
                publications.append(onward(after))
            else:
                publications.append(outcome_event(after, _events(one.verdict), now))
        return publications

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
        return self._waiting(one.before, one.verdict)

    def _settled(self, row: Lodgment, outcome: Outcome) -> Lodgment:
        after = row.moved(_FINAL_STATE[outcome.result], reason=_reason(outcome), tally=Tally())
        return replace(
            after,
            agency_reference=outcome.agency_reference,
            document_number=outcome.document_number,
            finished_at=self._context.clock(),
        )

    def _waiting(self, row: Lodgment, verdict: Outcome | Failure) -> Lodgment:
        now, spread = self._context.clock(), self._context.spread()
        policy = self._context.channels[row.channel].policy(row.service, row.action)
        if isinstance(verdict, Outcome):
            decision, reason = decide_poll(row.tally, policy, now, spread), _reason(verdict)
        else:
            decision, reason = decide(verdict, row.tally, policy, now, spread=spread), Reason.of(verdict)
        due_at = decision.due_at
        if decision.state in NEXT_STEP:
            due_at = now + self._context.timing.stuck_after
        after = row.moved(decision.state, due_at=due_at, resume=decision.resume, reason=reason, tally=decision.tally)
        if isinstance(verdict, Outcome):
            after = replace(after, agency_reference=verdict.agency_reference or row.agency_reference)
        return after

    async def _discard_stale_tokens(self, tx: Tx, stored: Sequence[_Read]) -> None:
        """A token that the agency refused must not be handed out again."""
        for one in stored:
            row = one.before
            stale = isinstance(one.verdict, Failure) and one.verdict.kind is FailureClass.STALE_TOKEN
            if stale and row.token_key is not None and row.token_expires_at is not None:
                await tokens.discard(tx, row.token_key, row.token_expires_at)

    async def _next_in_lane(self, tx: Tx, after: Sequence[Lodgment]) -> list[Lodgment]:
        """Whose turn has come because the one before is final."""
        keys = {row.order_key for row in after if row.state in FINAL and row.order_key is not None}
        if not keys:
            return []
        due_at = self._context.clock() + self._context.timing.stuck_after
        moves = [
            (row, row.moved(row.resume or State.SEALED, due_at=due_at, reason=row.reason))
            for row in await lodgments.next_in_lane(tx, keys)
        ]
        won = await lodgments.move(tx, moves)
        return [moved for _, moved in moves if moved.id in won]

    async def _said_before(self, rows: Sequence[Lodgment]) -> list[Outgoing]:
        """The outcome events of lodgments that were final already: the first telling may not have left."""
        if not rows:
            return []
        async with self._context.ledger.transaction(read_only=True) as tx:
            return [outcome_event(row, await outcomes.of(tx, row.id), self._context.clock()) for row in rows]


def _events(verdict: Outcome | Failure) -> tuple[MessageEvent, ...]:
    return verdict.events if isinstance(verdict, Outcome) else ()


def _reason(outcome: Outcome) -> Reason | None:
    """The gravest message event speaks for the outcome; a delayed one needs no other reason."""
    if outcome.result is Result.DELAYED:
        return Reason("agency.delayed", "The agency has the document and has not finished processing it.")
    gravity = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFORMATION: 2}
    if not outcome.events:
        return None
    gravest = min(outcome.events, key=lambda event: gravity[event.severity])
    more = f" (and {len(outcome.events) - 1} more)" if len(outcome.events) > 1 else ""
    return Reason(gravest.code, f"{gravest.description}{more}", _who(outcome))


def _who(outcome: Outcome) -> Party:
    return Party.PRODUCER if outcome.result is Result.REJECTED else Party.NOBODY


def _tell(one: _Read, after: Lodgment) -> None:
    code = after.reason.code if after.reason is not None else None
    log.info("record.completed", lodgment=str(after.id), attempt=one.attempt.number, state=after.state, code=code)
