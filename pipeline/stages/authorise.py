"""authorise: see that a fresh security token exists for each lodgment's token key."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import structlog

from pipeline.broker.messages import outcome_event
from pipeline.broker.port import Delivery, Outgoing
from pipeline.ledger import lodgments, tokens
from pipeline.ledger.session import Tx
from pipeline.ledger.token_rows import StoredToken
from pipeline.lodgment.decisions import Decision, RetryPolicy, Tally, decide
from pipeline.lodgment.errors import DependencyDownError
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.lodgment import OPERATOR_RELEASED, OUTCOME_LATE, POLL_DUE, TOKEN_REQUESTED, Lodgment, Reason
from pipeline.lodgment.references import TokenKey, TokenKeyHash
from pipeline.lodgment.states import NEXT_STEP, State, Step
from pipeline.protocol.wstrust import SecurityToken
from pipeline.stages.contract import Context, Settled, ids_in, onward

log = structlog.get_logger(__name__)

_RELEASE_LIMIT = 1000
_ASK_AGAIN_AFTER = timedelta(minutes=1)
"""How long a refusal that only a person can mend stands for every lodgment of its key."""
_LEASE_BEYOND = timedelta(seconds=10)
"""A lease outlives the longest request by this."""
_LEDGER_PAUSE = 1.0


class TokenSource(Protocol):
    """Whoever can be asked for a token: one conversation with the token service, bounded retries included."""

    async def ask(self, key: TokenKey) -> SecurityToken | Failure: ...


class Authorise:
    """The token worker's use case: one request in flight per token key over all processes, by a lease in the ledger."""

    step = Step.AUTHORISE

    def __init__(self, context: Context, source: TokenSource | None, policy: RetryPolicy, concurrency: int) -> None:
        self._context = context
        self._source = source
        self._policy = policy
        self._slots = asyncio.Semaphore(concurrency)

    async def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
        deliveries = ids_in(batch)
        async with self._context.ledger.transaction() as tx:
            rows = await lodgments.load(tx, deliveries.keys())
            to_ask, publications = await self._sort(tx, list(rows.values()))
        margin = self._context.timing.token_margin
        in_hand = {row.id for waiting in to_ask.values() for row in waiting}
        done = [d for lodgment_id, ds in deliveries.items() if lodgment_id not in in_hand for d in ds]
        if done:
            yield Settled(tuple(done), tuple(publications))
        asking = [asyncio.create_task(self._authorise(key, waiting, margin)) for key, waiting in to_ask.items()]
        try:
            for settled in asyncio.as_completed(asking):
                ids, publications = await settled
                yield Settled(tuple(d for i in ids for d in deliveries[i]), tuple(publications))
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def renew(self, ahead: timedelta, demand_within: timedelta, limit: int) -> tuple[int, list[Outgoing]]:
        """Ask anew for tokens that expire within `ahead` and were used within `demand_within`.

        How many were asked for, and the messages of lodgments that waited for one of them; publish those.
        """
        now = self._context.clock()
        async with self._context.ledger.transaction() as tx:
            expiring = await tokens.expiring(tx, now + ahead, now - demand_within, now, limit)
        to_ask = [stored.key for stored in expiring if self._known(stored, (), ahead) is None]
        answered = await asyncio.gather(*(self._authorise(key, (), ahead) for key in to_ask))
        return len(answered), [message for _, publications in answered for message in publications]

    async def _sort(self, tx: Tx, rows: Sequence[Lodgment]) -> tuple[dict[TokenKey, list[Lodgment]], list[Outgoing]]:
        """Move on what needs no request; return what waits for one, by key."""
        by_key: dict[TokenKey, list[Lodgment]] = {}
        moves: list[tuple[Lodgment, Lodgment]] = []
        publications = [onward(row) for row in rows if row.state is State.AUTHORISED]
        for row in rows:
            if row.state is not State.RECEIVED:
                continue
            key = self._context.channels[row.channel].token_key(row)
            if key is None:
                moves.append((row, row.moved(State.AUTHORISED, due_at=self._stuck_at(), reason=_kept(row))))
            else:
                by_key.setdefault(key, []).append(row)
        stored = await tokens.load(tx, [key.hash() for key in by_key])
        to_ask: dict[TokenKey, list[Lodgment]] = {}
        for key, waiting in by_key.items():
            known = self._known(stored.get(key.hash()), waiting, self._context.timing.token_margin)
            if known is None:
                to_ask[key] = waiting
            else:
                moves += known
        await tokens.touch(tx, stored.keys(), self._context.clock())
        publications += await self._move(tx, moves)
        return to_ask, publications

    def _known(
        self, stored: StoredToken | None, waiting: Sequence[Lodgment], margin: timedelta
    ) -> list[tuple[Lodgment, Lodgment]] | None:
        """How these go on by what the ledger has: the token, or its latest refusal. None: it must be asked for."""
        now = self._context.clock()
        if stored is None:
            return None
        token = stored.token
        if token is not None and token.expires_at > now + margin:
            return [(row, self._with_token(row, stored.key_hash, token)) for row in waiting]
        asked_now = stored.lease_until is not None and stored.lease_until > now
        if asked_now or stored.failed is None or stored.failed.code == tokens.REFUSED_BY_AGENCY:
            return None
        if stored.retry_at is not None:
            return [(row, _parked_after(row, stored)) for row in waiting] if stored.retry_at > now else None
        # Refused for good, which a person mends and then releases: asking for every lodgment again would be a storm.
        released = any(row.reason is not None and row.reason.code == OPERATOR_RELEASED for row in waiting)
        if released or stored.requested_at <= now - _ASK_AGAIN_AFTER:
            return None
        return [(row, row.moved(State.HELD, reason=stored.failed)) for row in waiting]

    async def _authorise(
        self, key: TokenKey, in_hand: Sequence[Lodgment], margin: timedelta
    ) -> tuple[list[UUID], list[Outgoing]]:
        """Ask for one key; then move on everything that waits for it, in hand or parked."""
        async with self._slots:
            publications = await self._claim(key, in_hand, margin)
            if publications is None:
                log.info("authorise.started", token_key=key.hash(), waiting=len(in_hand))
                answer = await self._ask(key)
                await self._keep(key.hash(), answer, in_hand)
                publications = await self._settle(key.hash(), answer, in_hand)
        return [row.id for row in in_hand], publications

    async def _claim(self, key: TokenKey, in_hand: Sequence[Lodgment], margin: timedelta) -> list[Outgoing] | None:
        """Win the right to ask, only now that a request can start: a lease must not run out in a queue of ours.

        None when it is won; else what follows, because another asks, or asked while these waited.
        """
        now = self._context.clock()
        async with self._context.ledger.transaction() as tx:
            moves = self._known((await tokens.load(tx, [key.hash()])).get(key.hash()), in_hand, margin)
            if moves is None and await tokens.claim(tx, [key], self._context.worker, now, self._lease_until()):
                return None
            if moves is None:
                moves = [(row, self._parked_for(row, key.hash())) for row in in_hand]
            return await self._move(tx, moves)

    async def _ask(self, key: TokenKey) -> SecurityToken | Failure:
        """Never longer than the lease: two requests for one key must not be under way."""
        assert self._source is not None  # noqa: S101  - a channel with token keys has a token service
        try:
            async with asyncio.timeout(self._context.timing.token_wait.total_seconds()):
                return await self._source.ask(key)
        except TimeoutError:
            return _OUT_OF_TIME

    async def _keep(self, key: TokenKeyHash, answer: SecurityToken | Failure, in_hand: Sequence[Lodgment]) -> None:
        """Store the answer, however long the ledger takes to come back: nobody else may ask until the lease is over."""
        now = self._context.clock()
        while True:
            try:
                async with self._context.ledger.transaction() as tx:
                    if isinstance(answer, SecurityToken):
                        await tokens.store(tx, key, self._context.worker, answer)
                    else:
                        retry_at = self._decide(answer, in_hand[0] if in_hand else None).due_at
                        await tokens.fail(tx, key, self._context.worker, Reason.of(answer), retry_at, now)
            except DependencyDownError as error:
                log.warning("authorise.ledger_down", code=error.code, token_key=key)
                await asyncio.sleep(_LEDGER_PAUSE)
            else:
                return

    async def _settle(
        self, key: TokenKeyHash, answer: SecurityToken | Failure, in_hand: Sequence[Lodgment]
    ) -> list[Outgoing]:
        async with self._context.ledger.transaction() as tx:
            waiting = [*in_hand, *await lodgments.waiting_for_token(tx, key, _RELEASE_LIMIT)]
            if isinstance(answer, SecurityToken):
                log.info(
                    "authorise.completed", token_key=key, expires=answer.expires_at.isoformat(), waiting=len(waiting)
                )
                moves = [(row, self._with_token(row, key, answer)) for row in waiting]
            else:
                log.warning("authorise.failed", token_key=key, code=answer.code, kind=answer.kind, waiting=len(waiting))
                moves = [(row, self._after(row, answer)) for row in waiting]
            return await self._move(tx, moves)

    async def _move(self, tx: Tx, moves: Sequence[tuple[Lodgment, Lodgment]]) -> list[Outgoing]:
        """Write the moves; the messages that follow, for those that nobody else moved meanwhile."""
        won = await lodgments.move(tx, moves)
        return list(self._messages(after for _, after in moves if after.id in won))

    def _messages(self, rows: Iterable[Lodgment]) -> Iterable[Outgoing]:
        for row in rows:
            if row.state in NEXT_STEP:
                yield onward(row)
            elif row.state is State.HELD:
                yield outcome_event(row, (), self._context.clock())

    def _with_token(self, row: Lodgment, key: TokenKeyHash, token: SecurityToken) -> Lodgment:
        moved = row.moved(State.AUTHORISED, due_at=self._stuck_at(), reason=_kept(row))
        return replace(moved, token_key=key, token_expires_at=token.expires_at)

    def _parked_for(self, row: Lodgment, key: TokenKeyHash) -> Lodgment:
        reason = Reason(TOKEN_REQUESTED, "Another worker is asking for this token; it wakes the lodgment.")
        parked = row.moved(State.PARKED, due_at=self._lease_until(), resume=State.RECEIVED, reason=reason)
        return replace(parked, token_key=key)

    def _after(self, row: Lodgment, failure: Failure) -> Lodgment:
        decision = self._decide(failure, row)
        return row.moved(
            decision.state,
            due_at=decision.due_at,
            resume=decision.resume,
            reason=Reason.of(failure),
            tally=decision.tally,
        )

    def _decide(self, failure: Failure, row: Lodgment | None) -> Decision:
        tally = row.tally if row is not None else Tally()
        now = self._context.clock()
        return decide(failure, tally, self._policy, now, resume=State.RECEIVED, spread=self._context.spread())

    def _stuck_at(self) -> datetime:
        return self._context.clock() + self._context.timing.stuck_after

    def _lease_until(self) -> datetime:
        return self._context.clock() + self._context.timing.token_wait + _LEASE_BEYOND


def _kept(row: Lodgment) -> Reason | None:
    """The reason that outlives this step: that the agency is being asked, and for how long already."""
    return row.reason if row.reason is not None and row.reason.code in {POLL_DUE, OUTCOME_LATE} else None


def _parked_after(row: Lodgment, stored: StoredToken) -> Lodgment:
    """Wait as long as the key itself waits: asking for every lodgment again would be a storm."""
    return row.moved(State.PARKED, due_at=stored.retry_at, resume=State.RECEIVED, reason=stored.failed)


_OUT_OF_TIME = Failure(
    FailureClass.UNAVAILABLE,
    "sts.timeout",
    "",
    "The token service took too long to answer. It is asked again by itself.",
    Party.AGENCY,
    Blast.CHANNEL,
)
