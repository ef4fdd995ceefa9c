"""Transport workers, outcome workers and a scheduler on one ledger, driven by hand under a clock that tests move."""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline.broker.port import Exchange, Outgoing
from pipeline.ledger import channel_states, lodgments
from pipeline.lodgment.breaker import Breaker, BreakerScope
from pipeline.lodgment.doors import BreakerPolicies
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.states import Step
from pipeline.stages.contract import Context, Stage, onward
from pipeline.stages.record import Record
from pipeline.stages.reopen import Reopen
from pipeline.stages.reschedule import Reschedule
from pipeline.stages.submit import Submit
from tests.doubles.moody_agency import MoodyAgency
from tests.integration.stages.conftest import delivery, drive

if TYPE_CHECKING:
    from tests.integration.stages.conftest import Bench

DOOR = "asic_bn/business-names"
_ROOM = 500


class Street:
    """Two processes of each kind, which share nothing but the ledger and the queues."""

    def __init__(self, bench: "Bench", breakers: BreakerPolicies | None = None, batch: int = 50) -> None:
        self.bench = bench
        self.agency = MoodyAgency(bench.clock)
        self.breakers = breakers or BreakerPolicies()
        self.told: list[Outgoing] = []
        self.queues: dict[Step, deque[Outgoing]] = {step: deque() for step in (Step.SUBMIT, Step.RECORD)}
        contexts = [self.context(name) for name in ("one", "other")]
        self._stages: dict[Step, Sequence[Stage]] = {
            Step.SUBMIT: [Submit(context, self.agency) for context in contexts],
            Step.RECORD: [Record(context) for context in contexts],
        }
        self._turn = 0
        self._batch = batch
        self._schedulers = [(Reschedule(context, 500), Reopen(context, 500)) for context in contexts]

    def context(self, name: str) -> Context:
        return replace(self.bench.context(name), breakers=self.breakers)

    async def sealed(self, count: int, **changes: object) -> list[Lodgment]:
        """Lodgments ready to go, queued."""
        rows = [await self.bench.sealed(**changes) for _ in range(count)]
        self.queue([onward(row) for row in rows])
        return rows

    def queue(self, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            if message.exchange is Exchange.STEPS:
                self.queues[Step(message.routing_key)].append(message)
            else:
                self.told.append(message)

    async def work(self) -> None:
        """Until the queues are empty; batches go to the one process and the other in turn."""
        while any(self.queues.values()):
            for step, queue in self.queues.items():
                batch = [delivery(queue.popleft()) for _ in range(min(self._batch, len(queue)))]
                if batch:
                    self._turn += 1
                    self.queue(await drive(self._stages[step][self._turn % 2], batch))

    async def schedule(self) -> int:
        """Both schedulers look once; how many messages they had."""
        before = sum(map(len, self.queues.values()))
        for reschedule, reopen in self._schedulers:
            self.queue(await reschedule.sweep())
            if await reopen.look():
                self.queue(await reopen.let_through(_ROOM))
        return sum(map(len, self.queues.values())) - before

    async def live(self, time: timedelta, step: timedelta = timedelta(seconds=1)) -> None:
        """Let so much time pass, with everybody at work."""
        end = self.bench.now + time
        while self.bench.now < end:
            await self.schedule()
            await self.work()
            self.bench.now += step

    async def states(self, rows: Sequence[Lodgment]) -> Counter[str]:
        async with self.bench.ledger.transaction(read_only=True) as tx:
            found = await lodgments.load(tx, [row.id for row in rows])
        return Counter(row.state for row in found.values())

    async def breaker(self, name: str = DOOR) -> Breaker:
        async with self.bench.ledger.transaction(read_only=True) as tx:
            return (await channel_states.every(tx, BreakerScope.CHANNEL)).get(name, Breaker())
