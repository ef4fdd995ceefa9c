"""The token desk: asks the token service for what the ledger's queue says, and tells the answers to those who wait.

One request in flight per key over all processes, by a lease; rate and concurrency towards the service shared by all, by
a budget; and a breaker before it, so that a service that is down is asked by one probe and not by every lodgment.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from pipeline.broker.messages import outcome_event
from pipeline.broker.port import Outgoing
from pipeline.ledger import channel_states, lodgments, token_queue, tokens
from pipeline.ledger.session import Tx
from pipeline.ledger.token_queue import Bespoken, Taken
from pipeline.ledger.token_rows import StoredToken, Turn
from pipeline.lodgment import breaker as breakers
from pipeline.lodgment.breaker import CREDENTIAL_POLICY, BreakerPolicy, BreakerScope, BreakerState, Budget
from pipeline.lodgment.decisions import RetryPolicy, Tally, decide
from pipeline.lodgment.errors import DependencyDownError
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.references import TokenKey
from pipeline.lodgment.states import NEXT_STEP, State
from pipeline.protocol.wstrust import SecurityToken
from pipeline.stages.breakers import tell
from pipeline.stages.contract import Context, onward
from pipeline.telemetry import Metrics

log = structlog.get_logger(__name__)

LEASE_BEYOND = timedelta(seconds=10)
"""A lease outlives the longest request by this."""
_LEDGER_PAUSE = 1.0
_AT_ONCE = 500
"""Rows of one transaction: keys answered without asking, lodgments told, lodgments looked ahead for."""
_KEYS_AT_ONCE = 50
_RENEW_FROM, _RENEW_OVER = 0.5, 0.4
"""A renewal falls at a random moment between these parts of a token's useful life: what was fetched in one minute is
not renewed in one minute."""


class TokenSource(Protocol):
    """Whoever can be asked for a token: one conversation with the token service, bounded retries included."""

    async def ask(self, key: TokenKey) -> SecurityToken | Failure: ...


@dataclass(frozen=True, slots=True)
class DeskTerms:
    """How the desk works for one token service, which `sts` names by its address."""

    sts: str
    budget: Budget
    retry: RetryPolicy
    breaker: BreakerPolicy
    demand_within: timedelta = timedelta(minutes=10)
    """Tokens that nobody used for so long are not renewed."""
    look_ahead: timedelta = timedelta(minutes=10)
    """So long before a lodgment's not-before time, its token is seen to."""


class TokenDesk:
    """The token worker's use case that no delivery drives. `answered` is set when there is somebody to tell."""

    def __init__(
        self, context: Context, source: TokenSource, terms: DeskTerms, metrics: Metrics, answered: asyncio.Event
    ) -> None:
        self._context = context
        self._source = source
        self._terms = terms
        self._metrics = metrics
        self._answered = answered
        self._latest: datetime | None = None

    async def take(self, free: int) -> Sequence[Taken]:
        """Keys to ask for now, at most `free`: leased to this process, within the budget, past the breaker."""
        now = self._context.clock()
        await self._watch_clock(now)
        lease_until = now + self._context.timing.token_wait + LEASE_BEYOND
        latest = lease_until + breakers.CLOCK_TOLERANCE
        async with self._context.ledger.transaction(read_only=True) as tx:
            if not await token_queue.due(tx, self._terms.sts, now, latest):
                return ()
        async with self._context.ledger.transaction() as tx:
            before = await channel_states.lock(tx, BreakerScope.STS, self._terms.sts)
            under_way = await token_queue.under_way(tx, now, latest)
            admission = breakers.admit(before, self._terms.breaker, self._terms.budget, now, under_way)
            refused, taken = await self._fill(tx, now, lease_until, min(free, admission.count))
            after = breakers.spent(admission.breaker, self._terms.breaker, now, len(taken))
            if after != before:
                await channel_states.write(tx, BreakerScope.STS, self._terms.sts, after)
        tell(self._metrics, BreakerScope.STS, self._terms.sts, before, after)
        if refused:
            self._answered.set()
            log.info("authorise.refused_unasked", token_keys=refused)
        return taken

    async def _fill(self, tx: Tx, now: datetime, lease_until: datetime, count: int) -> tuple[int, list[Taken]]:
        """Take keys in the order of their turns; what belongs to a refused credential is answered without asking."""
        sts, owner = self._terms.sts, self._context.worker
        credentials = await channel_states.not_closed(tx, BreakerScope.CREDENTIAL)
        refused = 0
        for name, one in credentials.items():
            if one.state is BreakerState.OPEN and one.cause is not None:
                refused += await token_queue.refuse(tx, sts, name, one.cause, now, _AT_ONCE)
        taken: list[Taken] = []
        for name, one in credentials.items():
            if len(taken) < count and one.state is BreakerState.PROBING and breakers.may_probe(one, now):
                taken += await self._probe_credential(tx, name, now, lease_until)
        await token_queue.lapse(tx, sts, now, now - self._terms.demand_within, _AT_ONCE)
        for turn in Turn:
            left = count - len(taken)
            if left > 0:
                taken += await token_queue.take(tx, sts, turn, owner, now, lease_until, left, but=credentials)
        return refused, taken

    async def _probe_credential(self, tx: Tx, name: str, now: datetime, lease_until: datetime) -> list[Taken]:
        locked = await channel_states.lock(tx, BreakerScope.CREDENTIAL, name)
        if locked.state is not BreakerState.PROBING or not breakers.may_probe(locked, now):
            return []
        owner = self._context.worker
        for turn in Turn:
            taken = await token_queue.take(tx, self._terms.sts, turn, owner, now, lease_until, 1, only=name)
            if taken:
                after = breakers.spent(locked, CREDENTIAL_POLICY, now, 1)
                await channel_states.write(tx, BreakerScope.CREDENTIAL, name, after)
                return taken
        return []

    async def ask(self, taken: Taken) -> None:
        """One request, and its answer kept."""
        stored = taken.stored
        log.info("authorise.started", token_key=stored.key_hash, turn=taken.turn.name.lower())
        with self._metrics.asking():
            answer = await self._ask(stored.key)
        await self._keep(taken, answer)

    async def give_up(self, taken: Taken, code: str) -> None:
        """A request that met a defect of ours: who waits for it is held, and the rest goes on."""
        text = "A defect of this program, see the log. Report it; release the lodgment when it is mended."
        await self._keep(taken, Failure(FailureClass.OUR_DOCUMENT, code, "", text, Party.OPERATOR))

    async def _ask(self, key: TokenKey) -> SecurityToken | Failure:
        """Never longer than the lease: two requests for one key must not be under way."""
        try:
            async with asyncio.timeout(self._context.timing.token_wait.total_seconds()):
                return await self._source.ask(key)
        except TimeoutError:
            return _OUT_OF_TIME

    async def _keep(self, taken: Taken, answer: SecurityToken | Failure) -> None:
        """Store the answer, however long the ledger takes to come back: nobody else may ask until the lease is over."""
        while True:
            try:
                await self._store(taken, answer)
            except DependencyDownError as error:
                log.warning("authorise.ledger_down", code=error.code, token_key=taken.stored.key_hash)
                await asyncio.sleep(_LEDGER_PAUSE)
            else:
                self._answered.set()
                return

    async def _store(self, taken: Taken, answer: SecurityToken | Failure) -> None:
        now, key = self._context.clock(), taken.stored.key_hash
        async with self._context.ledger.transaction() as tx:
            before = await channel_states.lock(tx, BreakerScope.STS, self._terms.sts)
            down = answer if isinstance(answer, Failure) and answer.blast is Blast.CHANNEL else None
            after = breakers.answered(before, self._terms.breaker, now, down, self._context.spread())
            await channel_states.write(tx, BreakerScope.STS, self._terms.sts, after)
            await self._judge_credential(tx, taken.stored.key.credential, answer, now)
            if isinstance(answer, SecurityToken):
                renew_at = self._renew_at(answer, now)
                kept = await tokens.store(tx, key, self._context.worker, answer, now, renew_at)
            else:
                retry_at = self._retry_at(taken, answer, now)
                kept = await tokens.fail(tx, key, self._context.worker, Reason.of(answer), retry_at, now)
        tell(self._metrics, BreakerScope.STS, self._terms.sts, before, after)
        waited = (now - taken.queued_at).total_seconds()
        if isinstance(answer, SecurityToken):
            self._metrics.token(taken.turn.name.lower(), "issued", waited)
            log.info("authorise.completed", token_key=key, expires=answer.expires_at.isoformat(), kept=kept)
        else:
            self._metrics.token(taken.turn.name.lower(), answer.kind, waited)
            log.warning("authorise.failed", token_key=key, code=answer.code, kind=answer.kind, kept=kept)

    async def _judge_credential(self, tx: Tx, name: str, answer: SecurityToken | Failure, now: datetime) -> None:
        """A refusal of the credential is one for every employer that it acts for; an answer takes it back."""
        if isinstance(answer, SecurityToken):
            if await channel_states.close(tx, BreakerScope.CREDENTIAL, name):
                log.info("credential.accepted", credential=name)
        elif answer.blast is Blast.CREDENTIAL and answer.kind is not FailureClass.UNAVAILABLE:
            before = await channel_states.lock(tx, BreakerScope.CREDENTIAL, name)
            after = breakers.opened(before, CREDENTIAL_POLICY, now, answer, self._context.spread())
            await channel_states.write(tx, BreakerScope.CREDENTIAL, name, after)
            if before.state is BreakerState.CLOSED:
                log.error("credential.refused", credential=name, code=answer.code, advice=answer.advice)

    def _renew_at(self, token: SecurityToken, now: datetime) -> datetime:
        useful = max(timedelta(0), token.expires_at - self._context.timing.token_margin - now)
        return now + useful * (_RENEW_FROM + _RENEW_OVER * self._context.spread())

    def _retry_at(self, taken: Taken, failure: Failure, now: datetime) -> datetime | None:
        """When the key is asked for again by itself; None when a person must act first."""
        tally = Tally(waits=taken.stored.failures)
        decision = decide(failure, tally, self._terms.retry, now, resume=State.RECEIVED, spread=self._context.spread())
        return decision.due_at

    async def settle(self) -> list[Outgoing]:
        """Tell some of those who wait: the messages of lodgments that go on or are held; publish them.

        Empty when nobody is left to tell. In portions, so that a hundred thousand are not set free in one go.
        """
        now = self._context.clock()
        async with self._context.ledger.transaction() as tx:
            answered = {one.key_hash: one for one in await token_queue.unsettled(tx, _KEYS_AT_ONCE)}
            if not answered:
                return []
            waiting = await lodgments.waiting_for_token(tx, answered.keys(), _AT_ONCE)
            moves = [
                (row, after)
                for row in waiting
                if row.token_key is not None and (after := self._told(row, answered[row.token_key], now)) is not None
            ]
            won = await lodgments.move(tx, moves)
            if len(waiting) < _AT_ONCE:
                await token_queue.settled(tx, answered.keys())
        told = [after for _, after in moves if after.id in won]
        if told:
            log.info("authorise.settled", token_keys=len(answered), lodgments=len(told))
        messages = [onward(row) for row in told if row.state in NEXT_STEP]
        return messages + [outcome_event(row, (), now) for row in told if row.state is State.HELD]

    def _told(self, row: Lodgment, stored: StoredToken, now: datetime) -> Lodgment | None:
        """Where the answer sends a lodgment; None when it waits on, because the key is in the queue again."""
        timing = self._context.timing
        if stored.usable(now, timing.token_margin):
            moved = row.moved(State.AUTHORISED, due_at=now + timing.stuck_after)
            return replace(moved, token_expires_at=stored.expires_at)
        if stored.ask_at is not None or stored.failed is None:
            return None
        return row.moved(State.HELD, reason=stored.failed)

    async def look_ahead(self) -> bool:
        """Bespeak tokens for lodgments whose not-before time comes near; whether there may be more of them."""
        now = self._context.clock()
        async with self._context.ledger.transaction() as tx:
            rows = await lodgments.ahead(tx, now + self._terms.look_ahead, _AT_ONCE)
            found = [(row, self._context.channels[row.channel].token_key(row)) for row in rows]
            keyed = [(row, key) for row, key in found if key is not None]
            await lodgments.note_token_keys(tx, {row.id: key.hash() for row, key in keyed})
            await token_queue.warm(tx, [self._bespoken(row, key, now) for row, key in keyed], now)
        if keyed:
            log.info("authorise.ahead", lodgments=len(keyed), token_keys=len({key for _, key in keyed}))
        return len(keyed) == _AT_ONCE

    def _bespoken(self, row: Lodgment, key: TokenKey, now: datetime) -> Bespoken:
        until = row.due_at or now
        return Bespoken(key, now, until, until + self._context.timing.token_margin)

    async def _watch_clock(self, now: datetime) -> None:
        """A clock that stepped back would put off what is due by as much as it stepped."""
        latest, self._latest = self._latest, now
        if latest is None or now < latest - breakers.CLOCK_TOLERANCE:
            async with self._context.ledger.transaction() as tx:
                put_off = await token_queue.clock_stepped_back(tx, now)
            if latest is not None or put_off:
                log.warning("authorise.clock_stepped_back", token_keys=put_off)


_OUT_OF_TIME = Failure(
    FailureClass.UNAVAILABLE,
    "sts.timeout",
    "",
    "The token service took too long to answer. It is asked again by itself.",
    Party.AGENCY,
    Blast.CHANNEL,
)
