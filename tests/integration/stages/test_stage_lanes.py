"""Lanes through the stages: nobody sleeps on, nobody is asked about again and again."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from pipeline.gateway.exchange import Exchange, Request
from pipeline.ledger import lanes, lodgments
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.lodgment import LANE_TURN
from pipeline.lodgment.states import State, Step
from pipeline.stages.record import Record
from pipeline.stages.reschedule import Reschedule
from pipeline.stages.submit import Submit
from tests.doubles.lodgments import NOW
from tests.integration.stages.conftest import deliveries, drive
from tests.integration.stages.test_stage_record import accepted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.broker.port import Outgoing
    from pipeline.ledger.session import Tx
    from pipeline.lodgment.lodgment import Lodgment
    from pipeline.stages.submit import _Claimed
    from tests.integration.stages.conftest import Bench

REFUSED = Failure(FailureClass.OUR_DOCUMENT, "asic:FAULT.INVALIDXML", "", "Mend it.", Party.PRODUCER)


class Agency:
    async def exchange(self, request: Request) -> Exchange:
        del request
        return Exchange(NOW, NOW, NOW, 200, "application/soap+xml", b"<reply/>")


async def in_order(bench: "Bench", size: int) -> "list[Lodgment]":
    """A lane, in the order of its ids: those of one instant are drawn."""
    return sorted([await bench.sealed(order_key="lane") for _ in range(size)], key=lambda row: row.id)


async def test_one_that_parks_in_the_instant_in_which_the_one_before_is_final_is_woken(bench: "Bench") -> None:
    """Submit has looked at the lane and has not committed; record makes the predecessor final meanwhile."""
    first, second = await in_order(bench, 2)
    claimed, attempt = await bench.sent(first, accepted(first))
    looked = asyncio.Event()

    class Slow(Submit):
        async def _claim(self, tx: "Tx", rows: "Sequence[Lodgment]") -> "tuple[list[_Claimed], list[Outgoing]]":
            done = await super()._claim(tx, rows)
            looked.set()
            with pytest.raises(TimeoutError):
                # It cannot come to its end before this transaction does; without the lock it would.
                await asyncio.wait_for(asyncio.shield(recording), 0.3)
            return done

    async def record() -> "list[Outgoing]":
        await looked.wait()
        return await drive(Record(bench.context()), deliveries(Step.RECORD, claimed, attempt=attempt))

    recording = asyncio.create_task(record())
    await drive(Slow(bench.context(), Agency()), deliveries(Step.SUBMIT, second))
    told = await recording
    assert [message.message_id for message in told if message.routing_key == Step.SUBMIT]
    assert (await bench.lodgment(second)).state is State.SEALED


async def test_who_waits_behind_a_held_one_is_looked_at_without_being_sealed_or_sent_round(bench: "Bench") -> None:
    rows = await in_order(bench, 4)
    claimed, attempt = await bench.sent(rows[0], REFUSED)
    await drive(Record(bench.context()), deliveries(Step.RECORD, claimed, attempt=attempt))
    await drive(Submit(bench.context(), Agency()), deliveries(Step.SUBMIT, *rows[1:]))
    parked = [await bench.lodgment(row) for row in rows[1:]]
    check = bench.timing.lane_check
    assert [row.due_at for row in parked] == [NOW + check * number for number in (1, 2, 3)]
    bench.now += check * 3
    assert await Reschedule(bench.context(), 100).sweep() == []
    after = [await bench.lodgment(row) for row in rows[1:]]
    assert [row.version for row in after] == [row.version for row in parked]
    assert [row.due_at for row in after] == [bench.now + check * number for number in (1, 2, 3)]
    async with bench.ledger.transaction(read_only=True) as tx:
        [one] = await lanes.longest(tx, 5)
    assert (one.first.id, one.first.state, one.waiting) == (rows[0].id, State.HELD, 3)


async def test_whose_turn_came_without_a_word_finds_out_by_itself(bench: "Bench") -> None:
    """Whoever made the predecessor final was killed before it could wake anybody."""
    first, second = await in_order(bench, 2)
    await drive(Submit(bench.context(), Agency()), deliveries(Step.SUBMIT, second))
    assert (await bench.lodgment(second)).reason is not None
    await bench.moved(first, first.moved(State.CANCELLED))
    bench.now += bench.timing.lane_check
    [message] = await Reschedule(bench.context(), 100).sweep()
    assert message.routing_key == Step.SUBMIT
    woken = await bench.lodgment(second)
    assert woken.state is State.SEALED
    assert woken.reason is not None
    assert woken.reason.code == LANE_TURN


async def test_nothing_outside_the_lane_waits_for_it(bench: "Bench") -> None:
    rows = await in_order(bench, 3)
    others = [await bench.sealed(order_key=f"lane {number}") for number in range(3)] + [await bench.sealed()]
    told = await drive(Submit(bench.context(), Agency()), deliveries(Step.SUBMIT, *rows, *others))
    assert [message.routing_key for message in told] == [Step.RECORD] * 5
    async with bench.ledger.transaction(read_only=True) as tx:
        found = await lodgments.load(tx, [row.id for row in (*rows, *others)])
    assert [found[row.id].state for row in rows] == [State.SENDING, State.PARKED, State.PARKED]
    assert {found[row.id].state for row in others} == {State.SENDING}
