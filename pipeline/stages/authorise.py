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
from pipeline.ledger.tables import TokenState
from pipeline.ledger.token_rows import StoredToken
from pipeline.lodgment.decisions import Decision, RetryPolicy, Tally, decide
from pipeline.lodgment.failures import Failure
from pipeline.lodgment.lodgment import TOKEN_REQUESTED, Lodgment, Reason
from pipeline.lodgment.references import TokenKey, TokenKeyHash
from pipeline.lodgment.states import NEXT_STEP, State, Step
from pipeline.protocol.wstrust import SecurityToken
from pipeline.stages.contract import Context, Settled, ids_in, onward

log = structlog.get_logger(__name__)

_RELEASE_LIMIT = 1000


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
        in_hand = {row.id for waiting in to_ask.values() for row in waiting}
        done = [d for lodgment_id, ds in deliveries.items() if lodgment_id not in in_hand for d in ds]
        if done:
            yield Settled(tuple(done), tuple(publications))
        asking = [asyncio.create_task(self._authorise(key, waiting)) for key, waiting in to_ask.items()]
        try:
            for settled in asyncio.as_completed(asking):
                ids, publications = await settled
                yield Settled(tuple(d for i in ids for d in deliveries[i]), tuple(publications))
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def renew(self, ahead: timedelta, demand_within: timedelta, limit: int) -> int:
        """Ask anew for tokens that expire within `ahead` and were used within `demand_within`; how many were asked."""
        now = self._context.clock()
        async with self._context.ledger.transaction() as tx:
            expiring = await tokens.expiring(tx, now + ahead, now - demand_within, now, limit)
            won = await tokens.claim(tx, [s.key for s in expiring], self._context.worker, now, self._lease_until())
        asking = [self._authorise(stored.key, ()) for stored in expiring if stored.key_hash in won]
        await asyncio.gather(*asking)
        return len(asking)

    async def _sort(self, tx: Tx, rows: Sequence[Lodgment]) -> tuple[dict[TokenKey, list[Lodgment]], list[Outgoing]]:
        """Move on what has its token; park what another worker asks for; return what this worker asks for, by key."""
        by_key: dict[TokenKey, list[Lodgment]] = {}
        moves: list[tuple[Lodgment, Lodgment]] = []
        publications = [onward(row) for row in rows if row.state is State.AUTHORISED]
        for row in rows:
            if row.state is not State.RECEIVED:
                continue
            key = self._context.channels[row.channel].token_key(row)
            if key is None:
                moves.append((row, row.moved(State.AUTHORISED, due_at=self._stuck_at())))
            else:
                by_key.setdefault(key, []).append(row)
        stored = await tokens.load(tx, [key.hash() for key in by_key])
        fresh = {key for key in by_key if self._usable(stored.get(key.hash()))}
        moves += [(row, self._authorised(row, stored[key.hash()])) for key in fresh for row in by_key[key]]
        await tokens.touch(tx, [key.hash() for key in fresh], self._context.clock())
        refused = {key for key in by_key.keys() - fresh if self._refused_lately(stored.get(key.hash()))}
        moves += [(row, _parked_after(row, stored[key.hash()])) for key in refused for row in by_key[key]]
        missing = [key for key in by_key if key not in fresh and key not in refused]
        now = self._context.clock()
        won = await tokens.claim(tx, missing, self._context.worker, now, self._lease_until())
        others = [key for key in missing if key.hash() not in won]
        moves += [(row, self._parked_for(row, key.hash())) for key in others for row in by_key[key]]
        publications += await self._move(tx, moves)
        return {key: by_key[key] for key in missing if key.hash() in won}, publications

    async def _authorise(self, key: TokenKey, in_hand: Sequence[Lodgment]) -> tuple[list[UUID], list[Outgoing]]:
        """Ask for one key; then move on everything that waits for it, in hand or parked."""
        async with self._slots:
            log.info("authorise.started", token_key=key.hash(), waiting=len(in_hand))
            assert self._source is not None  # noqa: S101  - a channel with token keys has a token service
            answer = await self._source.ask(key)
        publications = await self._settle(key.hash(), answer, in_hand)
        return [row.id for row in in_hand], publications

    async def _settle(
        self, key: TokenKeyHash, answer: SecurityToken | Failure, in_hand: Sequence[Lodgment]
    ) -> list[Outgoing]:
        now = self._context.clock()
        async with self._context.ledger.transaction() as tx:
            if isinstance(answer, SecurityToken):
                await tokens.store(tx, key, self._context.worker, answer)
            else:
                retry_at = self._decide(answer, in_hand[0] if in_hand else None).due_at
                await tokens.fail(tx, key, self._context.worker, Reason.of(answer), retry_at, now)
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

    def _usable(self, stored: StoredToken | None) -> bool:
        if stored is None or stored.token is None:
            return False
        return stored.token.expires_at > self._context.clock() + self._context.timing.token_margin

    def _refused_lately(self, stored: StoredToken | None) -> bool:
        if stored is None or stored.state is not TokenState.FAILED or stored.retry_at is None:
            return False
        return stored.retry_at > self._context.clock()

    def _authorised(self, row: Lodgment, stored: StoredToken) -> Lodgment:
        assert stored.token is not None  # noqa: S101  - `_usable` said so
        return self._with_token(row, stored.key_hash, stored.token)

    def _with_token(self, row: Lodgment, key: TokenKeyHash, token: SecurityToken) -> Lodgment:
        moved = row.moved(State.AUTHORISED, due_at=self._stuck_at())
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
        return self._context.clock() + self._context.timing.token_wait


def _parked_after(row: Lodgment, stored: StoredToken) -> Lodgment:
    """Wait as long as the key itself waits: asking for every lodgment again would be a storm."""
    return row.moved(State.PARKED, due_at=stored.retry_at, resume=State.RECEIVED, reason=stored.failed)
