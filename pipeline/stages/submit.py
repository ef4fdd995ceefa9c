"""submit: write the attempt and commit it, then send the stored bytes, then store the raw reply."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from uuid import UUID

import structlog

from pipeline.broker.messages import outcome_event
from pipeline.broker.port import Delivery, Outgoing
from pipeline.channels.contract import Reply, Sent
from pipeline.gateway.exchange import Exchange, Request, Streamed
from pipeline.ledger import artifacts, attempts, holds, lane_history, lanes, lodgments
from pipeline.ledger.artifact_rows import FoundEnvelope, NewArtifact
from pipeline.ledger.session import Tx
from pipeline.ledger.tables import ArtifactKind
from pipeline.lodgment.deadlines import least_first
from pipeline.lodgment.doors import closed_until, parked_at
from pipeline.lodgment.errors import DependencyDownError
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.lodgment import (
    BREAKER_OPEN,
    BREAKER_POLLS,
    CLOSEDOWN,
    POLL_DUE,
    Attempt,
    Lodgment,
    Purpose,
)
from pipeline.lodgment.outcome import Outcome
from pipeline.lodgment.replacement import in_closedown, judge
from pipeline.lodgment.states import State, Step
from pipeline.stages.contract import Carrier, Context, Settled, ids_in, onward, to_step
from pipeline.stages.doors import HTTP_ERROR, Answer, Doors, door_of, slack_of
from pipeline.stages.turns import go_on, parked_for_turn

log = structlog.get_logger(__name__)

_GATHER = 0.005
"""Seconds to wait for more replies before writing those at hand: one transaction for many costs little time."""
_LEDGER_PAUSE = 1.0
_STOPPED = frozenset({State.HELD, State.CANCELLED})


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A lodgment that this worker alone may send until its lease ends."""

    lodgment: Lodgment
    attempt: Attempt
    request: Request


class Submit:
    """The transport worker's use case. The claim and the attempt are committed before a socket opens."""

    step = Step.SUBMIT

    def __init__(self, context: Context, agency: Carrier) -> None:
        self._context = context
        self._agency = agency
        self._doors = Doors(context)

    async def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
        deliveries = ids_in(batch)
        read_at = self._context.clock()
        async with self._context.ledger.transaction() as tx:
            rows = list((await lodgments.load(tx, deliveries.keys())).values())
            claimed, publications = await self._claim(tx, rows)
            publications += await self._already_answered(tx, rows)
        # Sent back for a new token, or stopped, when these were here before; that message may not have left.
        publications += [onward(row) for row in rows if row.state is State.RECEIVED]
        publications += [self._stopped(row, read_at) for row in rows if row.state in _STOPPED]
        in_hand = {one.lodgment.id for one in claimed}
        done = [d for lodgment_id, ds in deliveries.items() if lodgment_id not in in_hand for d in ds]
        if done:
            yield Settled(tuple(done), tuple(publications))
        sending = {asyncio.create_task(self._send(one)) for one in claimed}
        try:
            while sending:
                answered, sending = await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
                if sending:
                    more, sending = await asyncio.wait(sending, timeout=_GATHER)
                    answered |= more
                results = [task.result() for task in answered]
                await self._store(results)
                ids = [one.lodgment.id for one, _ in results]
                onwards = tuple(to_step(Step.RECORD, one.lodgment, one.attempt.id) for one, _ in results)
                yield Settled(tuple(d for i in ids for d in deliveries[i]), onwards)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)

    async def _claim(self, tx: Tx, rows: Sequence[Lodgment]) -> tuple[list[_Claimed], list[Outgoing]]:
        """Claim what may be sent now; park what must wait its turn; send back what needs a new token."""
        now = self._context.clock()
        sealed = [row for row in rows if row.state is State.SEALED]
        await lanes.lock(tx, lanes.keys_of(sealed))
        blocked = await lanes.blocked(tx, [row.id for row in sealed if row.order_key is not None])
        first = [row for row in sealed if row.id not in blocked]
        held = await holds.over(tx, [row for row in first if not self._context.channels[row.channel].asks(row)])
        forbidden = await self._replacements(tx, [row for row in first if row.id not in held])
        forbidden |= self._closed_down([row for row in first if row.id not in held.keys() | forbidden.keys()])
        barred = await self._doors.barred(tx, [row for row in first if row.id not in held.keys() | forbidden.keys()])
        moves: list[tuple[Lodgment, Lodgment]] = []
        new_attempts: dict[UUID, Attempt] = {}
        for row in sealed:
            if row.id in blocked:
                moves.append((row, parked_for_turn(self._context, row, blocked[row.id])))
            elif row.id in held:
                hold = held[row.id]
                moves.append((row, replace(row.moved(State.HELD, reason=hold.reason), hold_id=hold.id)))
            elif row.id in forbidden:
                moves.append((row, forbidden[row.id]))
            elif row.id in barred:
                moves.append((row, parked_at(row, barred[row.id], now, self._context.timing.door_patience)))
            elif row.token_expires_at is not None and row.token_expires_at <= now + self._context.timing.token_margin:
                due = now + self._context.timing.stuck_after
                moves.append((row, row.moved(State.RECEIVED, due_at=due, reason=row.reason)))
            else:
                gateway = row.gateway or self._context.channels[row.channel].gateway()
                attempt = self._attempt(replace(row, gateway=gateway))
                new_attempts[row.id] = attempt
                moves.append((row, replace(self._claiming(row, attempt), gateway=gateway)))
        won = await lodgments.move(tx, moves)
        ours = [after for _, after in moves if after.id in won and after.state is State.SENDING]
        await attempts.add(tx, [new_attempts[row.id] for row in ours])
        envelopes = await artifacts.look_envelopes(tx, [row.envelope_id for row in ours if row.envelope_id is not None])
        claimed = []
        for row in least_first(ours, lambda one: slack_of(self._context, one, now)):
            channel = self._context.channels[row.channel]
            attempt = new_attempts[row.id]
            body = self._body(envelopes[attempt.envelope_id])
            claimed.append(_Claimed(row, attempt, Request(attempt.url, body, channel.headers(row))))
        changed = [after for _, after in moves if after.id in won]
        back = [onward(after) for after in changed if after.state is State.RECEIVED]
        back += [self._stopped(after, now) for after in changed if after.state in _STOPPED or _waits_for_agency(after)]
        back += [onward(after) for after in await go_on(self._context, tx, changed)]
        return claimed, back

    def _body(self, envelope: FoundEnvelope) -> tuple[bytes | Streamed, ...]:
        """The bytes on the wire; a large payload is read from the ledger, once more, while it is sent."""
        payload: bytes | Streamed
        if isinstance(envelope.payload, bytes):
            payload = envelope.payload
        else:
            reading = partial(self._context.ledger.transaction, read_only=True)
            payload = Streamed(envelope.payload.size, partial(envelope.payload.pieces, reading))
        return envelope.head, payload, envelope.tail

    async def _replacements(self, tx: Tx, rows: Sequence[Lodgment]) -> dict[UUID, Lodgment]:
        """Full file replacements that must wait, or must not go at all."""
        asking = [row for row in rows if row.facts.get("replaces") and row.sent_at is None and row.doubted_at is None]
        stopped: dict[UUID, Lodgment] = {}
        now = self._context.clock()
        history = await lane_history.before(tx, asking)
        for row in asking:
            found = judge(row, history[row.id])
            reopened = self._context.channels[row.channel].policy(row.service, row.action).reopened(now)
            if found.refusal is not None:
                stopped[row.id] = replace(row.moved(State.CANCELLED, reason=found.refusal), finished_at=now)
            elif reopened > now:
                reason = in_closedown(reopened)
                stopped[row.id] = row.moved(State.PARKED, due_at=reopened, resume=State.SEALED, reason=reason)
        return stopped

    def _closed_down(self, rows: Sequence[Lodgment]) -> dict[UUID, Lodgment]:
        """Those that the calendar says nobody would take now, or answer about: parked until the closedown ends."""
        now, spread = self._context.clock(), self._context.spread
        parked: dict[UUID, Lodgment] = {}
        for row in rows:
            channel = self._context.channels[row.channel]
            policy = channel.policy(row.service, row.action)
            until = policy.reopened(now) if channel.asks(row) else policy.taken_from(now)
            if until > now:
                due_at = until + policy.poll.cap * spread()
                parked[row.id] = row.moved(State.PARKED, due_at=due_at, resume=State.SEALED, reason=closed_until(until))
        return parked

    def _stopped(self, row: Lodgment, at: datetime) -> Outgoing:
        """Tell the producer of what is not sent; `at` is not after it was read."""
        code = row.reason.code if row.reason is not None else None
        log.info("submit.stopped", lodgment=str(row.id), state=row.state, code=code)
        return outcome_event(row, (), at)

    def _attempt(self, row: Lodgment) -> Attempt:
        assert row.envelope_id is not None  # noqa: S101  - a sealed lodgment has its envelope
        channel = self._context.channels[row.channel]
        purpose = Purpose.RESUBMIT if row.attempts else Purpose.SUBMIT
        if channel.asks(row) or (row.reason is not None and row.reason.code == POLL_DUE):
            purpose = Purpose.POLL
        return Attempt(
            id=self._context.new_id(),
            lodgment_id=row.id,
            number=row.attempts + 1,
            purpose=purpose,
            worker=self._context.worker,
            url=channel.url(row),
            envelope_id=row.envelope_id,
            started_at=self._context.clock(),
        )

    def _claiming(self, row: Lodgment, attempt: Attempt) -> Lodgment:
        lease_ends = attempt.started_at + self._context.timing.lease
        policy = self._context.channels[row.channel].policy(row.service, row.action)
        return replace(
            row.moved(State.SENDING, due_at=lease_ends, reason=row.reason),
            attempt_id=attempt.id,
            attempts=attempt.number,
            sent_at=row.sent_at or attempt.started_at,
            watch_at=row.watch_at or attempt.started_at + policy.receipt_after,
        )

    async def _already_answered(self, tx: Tx, rows: Sequence[Lodgment]) -> list[Outgoing]:
        """A delivery that comes again after its reply was stored: only the message to `record` can be missing."""
        in_flight = {row.attempt_id: row for row in rows if row.state is State.SENDING and row.attempt_id is not None}
        known = await attempts.load(tx, in_flight.keys())
        return [to_step(Step.RECORD, in_flight[a.id], a.id) for a in known.values() if a.finished_at is not None]

    async def _send(self, one: _Claimed) -> tuple[_Claimed, Exchange]:
        with structlog.contextvars.bound_contextvars(lodgment=str(one.lodgment.id), attempt=one.attempt.number):
            now = self._context.clock()
            if now - one.attempt.started_at > self._context.timing.lease - self._context.timing.token_margin:
                # The commit took so long that the exchange could outlive the lease, and another worker send as well.
                return one, Exchange(now, now, failure=_TOO_LATE)
            return one, await self._agency.exchange(one.request)

    async def _store(self, results: Sequence[tuple[_Claimed, Exchange]]) -> None:
        """Keep the replies, however long the ledger takes to come back: they exist nowhere else."""
        replies = {one.attempt.id: self._reply(one, exchange) for one, exchange in results}
        finished = [_finished(one.attempt, exchange, replies[one.attempt.id]) for one, exchange in results]
        while True:
            try:
                async with self._context.ledger.transaction() as tx:
                    # A commit whose answer was lost may have taken effect: then there is nothing left to write.
                    written = await attempts.finish(tx, finished)
                    kept = [reply for attempt_id, reply in replies.items() if attempt_id in written]
                    await artifacts.add(tx, [reply for reply in kept if reply is not None])
            except DependencyDownError as error:
                log.warning("submit.ledger_down", code=error.code, replies=len(results))
                await asyncio.sleep(_LEDGER_PAUSE)
            else:
                break
        await self._doors.heard([found for one in results if (found := self._answer(*one)) is not None])

    def _answer(self, one: _Claimed, exchange: Exchange) -> Answer | None:
        """What is said of the agency's door before anybody reads the reply; the rest is said by `record`."""
        row = one.lodgment
        verdict: Outcome | Failure | None = exchange.failure
        if verdict is None and (exchange.status or 0) >= HTTP_ERROR:
            reply = Reply(exchange.status or 0, exchange.content_type, exchange.body or b"")
            verdict = self._context.channels[row.channel].read_reply(reply, Sent(row))
        if verdict is None:
            return None
        return Answer(row, door_of(self._context, row), verdict, one.attempt.started_at)

    def _reply(self, one: _Claimed, exchange: Exchange) -> NewArtifact | None:
        if exchange.body is None:
            return None
        return NewArtifact(
            self._context.new_id(), one.lodgment.id, ArtifactKind.REPLY, exchange.body, exchange.finished_at
        )


def _finished(attempt: Attempt, exchange: Exchange, reply: NewArtifact | None) -> Attempt:
    return replace(
        attempt,
        wire_started_at=exchange.wire_started_at,
        finished_at=exchange.finished_at,
        http_status=exchange.status,
        content_type=exchange.content_type or None,
        reply_id=reply.id if reply is not None else None,
        failure=exchange.failure,
    )


def _waits_for_agency(row: Lodgment) -> bool:
    """Whether a producer may want to know that it is not sent yet."""
    code = row.reason.code if row.state is State.PARKED and row.reason is not None else None
    return code in {BREAKER_OPEN, BREAKER_POLLS, CLOSEDOWN}


_TOO_LATE = Failure(
    FailureClass.NOT_SENT,
    "lease.short",
    "",
    "The ledger took so long to record the attempt that it was not begun. Nothing was sent; it is tried again.",
    Party.NOBODY,
)
