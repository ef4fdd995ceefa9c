"""authorise: let lodgments go on whose token is at hand; the others wait in the ledger until the token desk has it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from pipeline.broker.messages import outcome_event
from pipeline.broker.port import Delivery, Outgoing
from pipeline.ledger import channel_states, lodgments, token_queue, tokens
from pipeline.ledger.session import Tx
from pipeline.ledger.token_queue import Wanted
from pipeline.ledger.token_rows import StoredToken
from pipeline.lodgment.breaker import Breaker, BreakerScope, BreakerState, may_probe, probing
from pipeline.lodgment.lodgment import (
    OPERATOR_RELEASED,
    OPERATOR_REPLAYED,
    OUTCOME_LATE,
    POLL_DUE,
    TOKEN_REQUESTED,
    Lodgment,
    Reason,
)
from pipeline.lodgment.references import TokenKey
from pipeline.lodgment.states import NEXT_STEP, State, Step
from pipeline.stages.contract import Context, Settled, ids_in, onward

log = structlog.get_logger(__name__)

_ASK_AGAIN_AFTER = timedelta(minutes=1)
"""How long a refusal that only a person can mend stands for every lodgment of its key."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """What is known of a key's token, and of its credential at the token service."""

    stored: StoredToken | None
    credential: Breaker
    sts: Breaker


class Authorise:
    """The token worker's use case for deliveries. It asks nobody and keeps nothing in hand while a token is awaited.

    `wake` is set when lodgments begin to wait: the token desk of this process need not find out by looking.
    """

    step = Step.AUTHORISE

    def __init__(self, context: Context, wake: asyncio.Event) -> None:
        self._context = context
        self._wake = wake

    async def handle(self, batch: Sequence[Delivery]) -> AsyncIterator[Settled]:
        deliveries = ids_in(batch)
        async with self._context.ledger.transaction() as tx:
            rows = await lodgments.load(tx, deliveries.keys())
            moves, waiting = await self._moves(tx, [row for row in rows.values() if row.state is State.RECEIVED])
            won = await lodgments.move(tx, moves)
        # What was done when these were here before: those messages may not have left.
        publications = [onward(row) for row in rows.values() if row.state is State.AUTHORISED]
        publications += self._messages([after for _, after in moves if after.id in won])
        if waiting:
            self._wake.set()
            log.info("authorise.waiting", token_keys=waiting, lodgments=len(moves))
        yield Settled(tuple(batch), tuple(publications))

    async def _moves(self, tx: Tx, rows: Sequence[Lodgment]) -> tuple[list[tuple[Lodgment, Lodgment]], int]:
        """Where each goes from here, and for how many keys some of them wait."""
        by_key: dict[TokenKey, list[Lodgment]] = {}
        moves: list[tuple[Lodgment, Lodgment]] = []
        for row in rows:
            key = self._context.channels[row.channel].token_key(row)
            if key is None:
                moves.append((row, row.moved(State.AUTHORISED, due_at=self._stuck_at(), reason=_kept(row))))
            else:
                by_key.setdefault(key, []).append(row)
        if not by_key:
            return moves, 0
        stored = await tokens.look(tx, [key.hash() for key in by_key])
        lacking = {key: rows for key, rows in by_key.items() if not self._good(stored.get(key.hash()))}
        for key in by_key.keys() - lacking.keys():
            moves += [(row, self._with_token(row, stored[key.hash()])) for row in by_key[key]]
        if lacking:
            moves += await self._without_token(tx, lacking)
        # Last: breakers are locked before token rows, or two transactions could wait for each other.
        await tokens.touch(tx, {key.hash() for key in by_key.keys() - lacking.keys()}, self._context.clock())
        return moves, len(lacking)

    async def _without_token(
        self, tx: Tx, lacking: Mapping[TokenKey, Sequence[Lodgment]]
    ) -> list[tuple[Lodgment, Lodgment]]:
        credentials = await self._credentials(tx, lacking)
        breakers = await channel_states.of(tx, BreakerScope.STS, {key.sts for key in lacking})
        seen = await tokens.look(tx, [key.hash() for key in lacking])
        wanted = [
            Wanted(key, _released(rows))
            for key, rows in lacking.items()
            if self._refusal(seen.get(key.hash()), credentials.get(key.credential), rows) is None
        ]
        now = self._context.clock()
        await token_queue.want(tx, wanted, now, now + self._margin)
        # Their rows are locked now; an answer may have been stored since they were read.
        seen |= await tokens.look(tx, [one.key.hash() for one in wanted])
        asked = {one.key for one in wanted}
        moves: list[tuple[Lodgment, Lodgment]] = []
        for key, rows in lacking.items():
            standing = _Standing(
                seen.get(key.hash()), credentials.get(key.credential, Breaker()), breakers.get(key.sts, Breaker())
            )
            moves += [(row, self._next(row, key, standing, asked=key in asked, rows=rows)) for row in rows]
        return moves

    def _next(
        self, row: Lodgment, key: TokenKey, standing: _Standing, *, asked: bool, rows: Sequence[Lodgment]
    ) -> Lodgment:
        stored = standing.stored
        if stored is not None and self._good(stored):
            return self._with_token(row, stored)
        if not asked:
            reason = self._refusal(stored, standing.credential, rows)
            return replace(row.moved(State.HELD, reason=reason), token_key=key.hash())
        # The answer wakes it; looking by itself, now and then, is for what nobody foresaw.
        patience = self._context.timing.token_patience * (1 + self._context.spread() / 5)
        due_at = self._context.clock() + patience
        parked = row.moved(State.PARKED, due_at=due_at, resume=State.RECEIVED, reason=_waits(standing))
        return replace(parked, token_key=key.hash())

    async def _credentials(self, tx: Tx, lacking: Mapping[TokenKey, Sequence[Lodgment]]) -> dict[str, Breaker]:
        """The refused credentials among these; one that was released, or whose probe is due, is let ask once more."""
        now = self._context.clock()
        found = await channel_states.of(tx, BreakerScope.CREDENTIAL, {key.credential for key in lacking})
        for name, breaker in found.items():
            released = any(_released(rows) for key, rows in lacking.items() if key.credential == name)
            if breaker.state is not BreakerState.OPEN or not (released or may_probe(breaker, now)):
                continue
            locked = await channel_states.lock(tx, BreakerScope.CREDENTIAL, name)
            if locked.state is BreakerState.OPEN:
                locked = probing(locked, now)
                await channel_states.write(tx, BreakerScope.CREDENTIAL, name, locked)
            found[name] = locked
        return found

    def _refusal(
        self, stored: StoredToken | None, credential: Breaker | None, rows: Sequence[Lodgment]
    ) -> Reason | None:
        """Why these are held without asking, or None when their token is to be asked for."""
        if credential is not None and credential.state is BreakerState.OPEN:
            return credential.cause
        if credential is not None and credential.state is BreakerState.PROBING:
            return None
        if stored is None or stored.failed is None or stored.retry_at is not None or stored.ask_at is not None:
            return None
        if stored.failed.code == tokens.REFUSED_BY_AGENCY:
            return None
        # Refused for good, which a person mends and then releases: asking for every lodgment again would be a storm.
        if _released(rows) or stored.requested_at <= self._context.clock() - _ASK_AGAIN_AFTER:
            return None
        return stored.failed

    def _messages(self, rows: Sequence[Lodgment]) -> list[Outgoing]:
        now = self._context.clock()
        told = [onward(row) for row in rows if row.state in NEXT_STEP]
        return told + [outcome_event(row, (), now) for row in rows if row.state is State.HELD]

    def _with_token(self, row: Lodgment, stored: StoredToken) -> Lodgment:
        moved = row.moved(State.AUTHORISED, due_at=self._stuck_at(), reason=_kept(row))
        return replace(moved, token_key=stored.key_hash, token_expires_at=stored.expires_at)

    def _good(self, stored: StoredToken | None) -> bool:
        return stored is not None and stored.usable(self._context.clock(), self._margin)

    @property
    def _margin(self) -> timedelta:
        return self._context.timing.token_margin

    def _stuck_at(self) -> datetime:
        return self._context.clock() + self._context.timing.stuck_after


def _released(rows: Sequence[Lodgment]) -> bool:
    by_hand = {OPERATOR_RELEASED, OPERATOR_REPLAYED}
    return any(row.reason is not None and row.reason.code in by_hand for row in rows)


def _kept(row: Lodgment) -> Reason | None:
    """The reason that outlives this step: that the agency is being asked, and for how long already."""
    return row.reason if row.reason is not None and row.reason.code in {POLL_DUE, OUTCOME_LATE} else None


def _waits(standing: _Standing) -> Reason:
    """What a person reads who asks why it waits."""
    cause = standing.sts.cause
    if cause is not None and standing.sts.state is not BreakerState.CLOSED:
        text = f"The token service does not answer as it must, and is asked again by itself. {cause.code}: {cause.text}"
        return Reason(TOKEN_REQUESTED, text, cause.who)
    failed = None if standing.stored is None else standing.stored.failed
    if failed is not None and failed.code != tokens.REFUSED_BY_AGENCY:
        text = f"No token could be had yet, it is asked for again by itself. {failed.code}: {failed.text}"
        return Reason(TOKEN_REQUESTED, text, failed.who)
    return Reason(TOKEN_REQUESTED, "A token is asked for; its answer wakes the lodgment. See `lodge tokens`.")
