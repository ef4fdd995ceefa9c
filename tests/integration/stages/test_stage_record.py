"""record: late replies, replies that come together, messages that come again."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.ledger import lanes
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.lodgment import LANE_TURN, Lodgment, Reason
from pipeline.lodgment.states import State, Step
from pipeline.stages.record import Record
from tests.doubles.asic import NAMESPACE
from tests.integration.stages.conftest import deliveries, drive

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pipeline.broker.port import Outgoing
    from pipeline.stages.record import _Read
    from tests.integration.stages.conftest import Bench

LOST = Failure(FailureClass.UNKNOWN, "transport.reset", "", "It is sent again.", Party.NOBODY)
REFUSED = Failure(FailureClass.OUR_DOCUMENT, "asic:FAULT.INVALIDXML", "", "Mend it.", Party.PRODUCER)


def accepted(row: Lodgment) -> bytes:
    header = "uri:business.document.header.types.asic.gov.au"
    return (
        f'<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Body><n:reply xmlns:n="{NAMESPACE}"'
        f' xmlns:h="{header}"><h:businessDocumentHeader><h:messageReferenceNumber>{row.reference}'
        "</h:messageReferenceNumber><h:result><h:accepted/></h:result></h:businessDocumentHeader></n:reply></e:Body>"
        "</e:Envelope>"
    ).encode()


async def woken(bench: "Bench", row: Lodgment) -> Lodgment:
    """An unknown lodgment on its way again."""
    unknown = await bench.moved(row, row.moved(State.UNKNOWN, due_at=bench.now, resume=State.SEALED))
    return await bench.moved(unknown, unknown.moved(State.SEALED, due_at=bench.now))


async def test_of_two_replies_that_come_together_the_verdict_counts(bench: "Bench") -> None:
    row = await bench.sealed()
    claimed, first = await bench.sent(row, None)
    again, second = await bench.sent(await woken(bench, claimed), LOST)
    await bench.answered(first, accepted(row))
    for order in ((second, first), (first, second)):
        batch = [d for attempt in order for d in deliveries(Step.RECORD, again, attempt=attempt)]
        told = await drive(Record(bench.context()), batch)
        assert (await bench.lodgment(row)).state is State.ACCEPTED
        assert {json.loads(message.body)["state"] for message in told} == {"accepted"}


async def test_a_verdict_outlives_a_move_that_came_between(bench: "Bench") -> None:
    """The scheduler wakes an unknown lodgment in the instant in which its late reply is read."""
    row = await bench.sealed()
    claimed, attempt = await bench.sent(row, None)
    unknown = await bench.moved(claimed, claimed.moved(State.UNKNOWN, due_at=bench.now, resume=State.SEALED))
    await bench.answered(attempt, accepted(row))
    moves = [unknown.moved(State.SEALED, due_at=bench.now)]

    class Interrupted(Record):
        async def _store(self, chosen: "Sequence[tuple[_Read, Lodgment]]") -> "tuple[set[UUID], list[Outgoing]]":
            if moves:
                await bench.moved(unknown, moves.pop())
            return await super()._store(chosen)

    await drive(Interrupted(bench.context()), deliveries(Step.RECORD, unknown, attempt=attempt))
    assert (await bench.lodgment(row)).state is State.ACCEPTED


async def test_what_a_reply_led_to_is_told_again_when_its_message_comes_again(bench: "Bench") -> None:
    row = await bench.sealed()
    claimed, attempt = await bench.sent(row, REFUSED)
    batch = deliveries(Step.RECORD, claimed, attempt=attempt)
    [first] = await drive(Record(bench.context()), batch)
    [again] = await drive(Record(bench.context()), batch)
    assert (await bench.lodgment(row)).state is State.HELD
    assert (again.message_id, json.loads(again.body)["state"]) == (first.message_id, "held")


async def test_a_final_outcome_is_told_again_to_the_letter(bench: "Bench") -> None:
    row = await bench.sealed()
    claimed, attempt = await bench.sent(row, accepted(row))
    batch = deliveries(Step.RECORD, claimed, attempt=attempt)
    [first] = await drive(Record(bench.context()), batch)
    bench.now += timedelta(hours=1)
    [again] = await drive(Record(bench.context()), batch)
    assert (again.message_id, again.body) == (first.message_id, first.body)


async def test_what_is_told_again_is_never_the_later_word(bench: "Bench") -> None:
    """Subscribers believe the event with the later time: here the verdict comes while an older state is told again."""
    row = await bench.sealed()
    claimed, first = await bench.sent(row, None)
    again, second = await bench.sent(await woken(bench, claimed), REFUSED)
    refused = deliveries(Step.RECORD, again, attempt=second)
    told = await drive(Record(bench.context()), refused)

    class Overtaken(Record):
        async def _said_before(self, read: "Sequence[_Read]") -> "list[Outgoing]":
            bench.now += timedelta(seconds=1)
            await bench.answered(first, accepted(row))
            told.extend(await drive(Record(bench.context("other")), deliveries(Step.RECORD, again, attempt=first)))
            bench.now += timedelta(seconds=1)
            return await super()._said_before(read)

    told += await drive(Overtaken(bench.context()), refused)
    events = [json.loads(message.body) for message in told]
    assert [event["state"] for event in events] == ["held", "accepted", "held"]
    assert max(events, key=lambda event: datetime.fromisoformat(event["at"]))["state"] == "accepted"


async def test_a_stale_token_is_said_to_authorise_again_when_the_message_comes_again(bench: "Bench") -> None:
    row = await bench.sealed()
    stale = replace(REFUSED, kind=FailureClass.STALE_TOKEN)
    claimed, attempt = await bench.sent(row, stale)
    batch = deliveries(Step.RECORD, claimed, attempt=attempt)
    [first] = await drive(Record(bench.context()), batch)
    [again] = await drive(Record(bench.context()), batch)
    assert first.routing_key == again.routing_key == Step.AUTHORISE


async def test_a_reply_to_an_earlier_attempt_without_a_verdict_changes_nothing(bench: "Bench") -> None:
    row = await bench.sealed()
    claimed, first = await bench.sent(row, REFUSED)
    again, _ = await bench.sent(await woken(bench, claimed), None)
    assert await drive(Record(bench.context()), deliveries(Step.RECORD, again, attempt=first)) == []
    assert await bench.lodgment(row) == again


async def test_two_outcome_workers_with_one_reply_write_it_once(bench: "Bench") -> None:
    row = await bench.sealed(order_key="lane")
    claimed, attempt = await bench.sent(row, accepted(row))
    batch = deliveries(Step.RECORD, claimed, attempt=attempt)
    one, other = Record(bench.context("one")), Record(bench.context("other"))
    await drive(one, batch)
    once = await bench.lodgment(row)
    await drive(other, batch)
    assert await bench.lodgment(row) == once


async def test_a_lane_goes_on_when_its_first_is_settled(bench: "Bench") -> None:
    first, second = await bench.sealed(order_key="lane"), await bench.sealed(order_key="lane")
    first, second = sorted((first, second), key=lambda row: row.id)
    async with bench.ledger.transaction(read_only=True) as tx:
        assert await lanes.blocked(tx, [first.id, second.id]) == {second.id: 1}
    parked = await bench.moved(
        second,
        second.moved(
            State.PARKED, due_at=bench.now + timedelta(hours=1), resume=State.SEALED, reason=Reason(LANE_TURN, "waits")
        ),
    )
    claimed, attempt = await bench.sent(first, accepted(first))
    told = await drive(Record(bench.context()), deliveries(Step.RECORD, claimed, attempt=attempt))
    assert (await bench.lodgment(parked)).state is State.SEALED
    assert {message.routing_key for message in told} >= {Step.SUBMIT}


async def test_replies_too_large_to_be_held_at_once_are_read_in_portions(bench: "Bench") -> None:
    sent = [await bench.sent(await bench.sealed(), None) for _ in range(3)]
    for claimed, attempt in sent:
        await bench.answered(attempt, accepted(claimed))
    batch = [d for claimed, attempt in sent for d in deliveries(Step.RECORD, claimed, attempt=attempt)]
    stage = Record(bench.context(), at_once=1)
    told = await drive(stage, batch)
    assert len(told) == len({message.message_id for message in told}) == 3
    assert {(await bench.lodgment(claimed)).state for claimed, _ in sent} == {State.ACCEPTED}
