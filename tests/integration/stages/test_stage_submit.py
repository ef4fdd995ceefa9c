"""submit: one sender at a time, and replies that are kept whatever the ledger does."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline.gateway.exchange import Exchange, Request
from pipeline.ledger import attempts
from pipeline.lodgment.states import State, Step
from pipeline.stages.submit import Submit
from tests.doubles.lodgments import NOW
from tests.integration.stages.conftest import deliveries, drive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.broker.port import Delivery, Outgoing
    from pipeline.ledger.session import Tx
    from pipeline.lodgment.lodgment import Lodgment
    from pipeline.stages.submit import _Claimed
    from tests.integration.stages.conftest import Bench


@dataclass
class Agency:
    """Answers everything with the same bytes."""

    then: Callable[[], None] = lambda: None
    requests: list[Request] = field(default_factory=list)

    async def exchange(self, request: Request) -> Exchange:
        self.requests.append(request)
        self.then()
        return Exchange(NOW, NOW, NOW, 200, "application/soap+xml", b"<reply/>")


async def test_a_commit_whose_answer_was_lost_keeps_the_reply_once_and_cuts_off_nobody(bench: "Bench") -> None:
    rows = [await bench.sealed() for _ in range(3)]

    def doubt() -> None:
        bench.ledger.doubts = 1

    told = await drive(Submit(bench.context(), Agency(doubt)), deliveries(Step.SUBMIT, *rows))
    assert [message.routing_key for message in told] == [Step.RECORD] * 3
    async with bench.ledger.transaction(read_only=True) as tx:
        for row in rows:
            [attempt] = await attempts.of(tx, row.id)
            assert attempt.reply_id is not None


async def test_an_answer_is_settled_when_it_comes_however_long_others_of_its_batch_take(bench: "Bench") -> None:
    rows = [await bench.sealed() for _ in range(3)]
    slow, answered = asyncio.Event(), asyncio.Event()

    class OneIsSlow(Agency):
        async def exchange(self, request: Request) -> Exchange:
            answer = await super().exchange(request)
            if len(self.requests) == len(rows):
                await slow.wait()
            return answer

    async def work() -> None:
        async for settled in Submit(bench.context(), OneIsSlow()).handle(deliveries(Step.SUBMIT, *rows)):
            done.extend(settled.deliveries)
            if len(done) == len(rows) - 1:
                answered.set()

    done: list[Delivery] = []
    working = asyncio.create_task(work())
    async with asyncio.timeout(30):
        await answered.wait()
    assert len(done) == len(rows) - 1
    slow.set()
    await working
    assert len(done) == len(rows)


async def test_what_could_outlive_its_lease_is_not_sent(bench: "Bench") -> None:
    """The claim's commit hangs so long that the scheduler may give the lodgment to another before this one is done."""
    row = await bench.sealed()
    agency = Agency()

    class Slow(Submit):
        async def _claim(self, tx: "Tx", rows: "Sequence[Lodgment]") -> "tuple[list[_Claimed], list[Outgoing]]":
            claimed = await super()._claim(tx, rows)
            bench.now += timedelta(seconds=30)
            return claimed

    await drive(Slow(bench.context(), agency), deliveries(Step.SUBMIT, row))
    assert agency.requests == []
    async with bench.ledger.transaction(read_only=True) as tx:
        [attempt] = await attempts.of(tx, row.id)
    assert attempt.failure is not None
    assert (attempt.failure.code, attempt.wire_started_at) == ("lease.short", None)


async def test_of_two_workers_with_the_same_message_one_sends(bench: "Bench") -> None:
    row = await bench.sealed()
    agency = Agency()
    stages = [Submit(bench.context(name), agency) for name in ("one", "other")]
    batch = deliveries(Step.SUBMIT, row, row)
    await asyncio.gather(*(drive(stage, batch) for stage in stages))
    assert len(agency.requests) == 1
    assert (await bench.lodgment(row)).attempts == 1


async def test_a_message_that_comes_again_after_the_reply_only_points_to_it(bench: "Bench") -> None:
    row = await bench.sealed()
    agency = Agency()
    await drive(Submit(bench.context(), agency), deliveries(Step.SUBMIT, row))
    [again] = await drive(Submit(bench.context("other"), agency), deliveries(Step.SUBMIT, row))
    assert again.routing_key == Step.RECORD
    assert len(agency.requests) == 1


async def test_an_aged_token_goes_back_and_says_so_again_when_the_message_comes_again(bench: "Bench") -> None:
    row = await bench.sealed(token_expires_at=NOW + timedelta(seconds=10))
    agency = Agency()
    for _ in range(2):
        [back] = await drive(Submit(bench.context(), agency), deliveries(Step.SUBMIT, row))
        assert back.routing_key == Step.AUTHORISE
    assert (await bench.lodgment(row)).state is State.RECEIVED
    assert agency.requests == []
