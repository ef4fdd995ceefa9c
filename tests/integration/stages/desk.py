"""A token desk on a real ledger, driven by hand, and a token service whose gate tests open."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline.broker.port import Outgoing
from pipeline.ledger import channel_states, tokens
from pipeline.ledger.token_queue import Taken
from pipeline.ledger.token_rows import StoredToken
from pipeline.lodgment.breaker import Breaker, BreakerPolicy, BreakerScope, Budget
from pipeline.lodgment.decisions import RetryPolicy
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.references import TokenKey
from pipeline.lodgment.states import State, Step
from pipeline.protocol.wstrust import SecurityToken
from pipeline.stages.authorise import Authorise
from pipeline.stages.token_desk import DeskTerms, TokenDesk
from pipeline.telemetry import Metrics
from tests.doubles.asic import TERMS, make_acting_channel, make_token
from tests.doubles.lodgments import a_lodgment
from tests.integration.stages.conftest import deliveries, drive

if TYPE_CHECKING:
    from tests.integration.stages.conftest import Bench

REVOKED = Failure(FailureClass.OUR_CREDENTIAL, "E2014", "", "It was revoked.", Party.OPERATOR, Blast.CREDENTIAL)
DOWN = Failure(FailureClass.UNAVAILABLE, "E1003", "", "It is not available.", Party.AGENCY, Blast.CHANNEL)
NO_CLAIMS = Failure(FailureClass.UNAVAILABLE, "E2190", "", "No claims.", Party.AGENCY, Blast.EMPLOYER)
UNREGISTERED = Failure(FailureClass.THEIR_PERMISSION, "E2999", "", "Not you.", Party.EMPLOYER, Blast.EMPLOYER)
POLICY = BreakerPolicy(consecutive=3)


class Service:
    """A token service that answers when its gate is open; `answer` says what, a token by default."""

    def __init__(self, bench: "Bench", answer: Failure | None = None) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.reached = asyncio.Event()
        self.asked: list[TokenKey] = []
        self.under_way = 0
        self.most = 0
        self.answer: Callable[[TokenKey], Failure | None] = lambda _: answer
        self._bench = bench

    async def ask(self, key: TokenKey) -> SecurityToken | Failure:
        self.asked.append(key)
        self.reached.set()
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.gate.wait()
        finally:
            self.under_way -= 1
        expires_at = self._bench.now + timedelta(minutes=30)
        return self.answer(key) or replace(make_token(), assertion=key.hash().encode(), expires_at=expires_at)


class Office:
    """One token worker: the stage, its desk and its slots."""

    def __init__(
        self, bench: "Bench", service: Service, *, worker: str = "one", budget: Budget | None = None, slots: int = 8
    ) -> None:
        bench.channel = make_acting_channel()
        self.bench = bench
        context = bench.context(worker)
        terms = DeskTerms(TERMS.sts, budget or Budget(1000, 1000), RetryPolicy(), POLICY)
        self.stage = Authorise(context, asyncio.Event())
        self.desk = TokenDesk(context, service, terms, Metrics(), asyncio.Event())
        self.slots = slots

    async def receive(self, *rows: Lodgment) -> list[Outgoing]:
        return await drive(self.stage, deliveries(Step.AUTHORISE, *rows))

    async def take(self) -> Sequence[Taken]:
        return await self.desk.take(self.slots)

    async def round(self) -> int:
        """Ask for what may be asked for now, all at the same time; how many."""
        taken = await self.take()
        await asyncio.gather(*(self.desk.ask(one) for one in taken))
        return len(taken)

    async def settle(self) -> list[Outgoing]:
        told: list[Outgoing] = []
        while messages := await self.desk.settle():
            told += messages
        return told

    async def work(self) -> list[Outgoing]:
        """Ask and tell until there is nothing more to do now."""
        told: list[Outgoing] = []
        at_work = True
        while at_work:
            asked, messages = await self.round(), await self.settle()
            told += messages
            at_work = asked > 0 or messages != []
        return told

    async def lodge(self, *rows: Lodgment) -> None:
        await self.receive(*rows)
        await self.work()

    async def breaker(self) -> Breaker:
        async with self.bench.ledger.transaction() as tx:
            return await channel_states.lock(tx, BreakerScope.STS, TERMS.sts)

    async def credential(self, name: str) -> Breaker:
        async with self.bench.ledger.transaction() as tx:
            return await channel_states.lock(tx, BreakerScope.CREDENTIAL, name)

    async def stored(self, row: Lodgment) -> StoredToken:
        key = self.bench.channel.token_key(row)
        assert key is not None
        async with self.bench.ledger.transaction(read_only=True) as tx:
            return (await tokens.load(tx, [key.hash()]))[key.hash()]


async def received(bench: "Bench", *employers: str, credential: str = "one", **changes: object) -> list[Lodgment]:
    """A lodgment for each of these employers."""
    rows = [
        replace(a_lodgment(bench.now), party_abn=abn, credential=credential, **changes)  # type: ignore[arg-type]  # fields by name
        for abn in employers
    ]
    await bench.add(*rows)
    return rows


def employers(count: int) -> list[str]:
    return [f"employer-{number:05d}" for number in range(count)]


async def states(bench: "Bench", rows: Sequence[Lodgment]) -> set[State]:
    return {row.state for row in await bench.lodgments(rows)}


async def reasons(bench: "Bench", rows: Sequence[Lodgment]) -> set[str | None]:
    return {None if row.reason is None else row.reason.code for row in await bench.lodgments(rows)}
