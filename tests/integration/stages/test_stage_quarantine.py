"""quarantine: what it keeps, and which lodgments it holds."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pipeline.broker.port import Exchange, Outgoing, later
from pipeline.ledger import quarantine
from pipeline.ledger.quarantine import Fate, Settling
from pipeline.lodgment.lodgment import Reason
from pipeline.lodgment.states import State, Step
from pipeline.stages.contract import to_step
from pipeline.stages.quarantine import CODE_HEADER, STEP_HEADER, Quarantine
from tests.doubles.lodgments import NOW
from tests.integration.stages.conftest import delivery, drive

if TYPE_CHECKING:
    from tests.integration.stages.conftest import Bench


def dead(body: bytes, step: str, code: str = "test.poison") -> Outgoing:
    return Outgoing(Exchange.DEAD, step, body, "message", {STEP_HEADER: step, CODE_HEADER: code})


async def test_a_lodgment_whose_reply_cannot_be_read_is_held_and_not_tried_for_ever(bench: "Bench") -> None:
    claimed, attempt = await bench.sent(await bench.sealed(), b"unreadable")
    body = to_step(Step.RECORD, claimed, attempt.id).body
    [told] = await drive(Quarantine(bench.context()), [delivery(dead(body, Step.RECORD))])
    held = await bench.lodgment(claimed)
    assert held.reason is not None
    assert (held.state, held.reason.code) == (State.HELD, "test.poison")
    assert told.exchange is Exchange.OUTCOMES


async def test_that_it_is_held_is_told_again_when_the_message_comes_again(bench: "Bench") -> None:
    """The scheduler died before it could tell."""
    row = await bench.sealed()
    message = delivery(dead(to_step(Step.SUBMIT, row).body, Step.SUBMIT))
    [told] = await drive(Quarantine(bench.context()), [message])
    [again] = await drive(Quarantine(bench.context()), [message])
    assert (again.message_id, again.body) == (told.message_id, told.body)


async def test_one_that_is_held_for_another_reason_is_not_told_of(bench: "Bench") -> None:
    row = await bench.sealed()
    await bench.moved(row, row.moved(State.HELD, reason=Reason("AUTH", "Not authorised.")))
    assert await drive(Quarantine(bench.context()), [delivery(dead(to_step(Step.SUBMIT, row).body, Step.SUBMIT))]) == []


async def test_a_lodgment_that_a_worker_is_sending_is_left_to_it(bench: "Bench") -> None:
    claimed, _ = await bench.sent(await bench.sealed(), None)
    body = to_step(Step.SUBMIT, claimed).body
    await drive(Quarantine(bench.context()), [delivery(dead(body, Step.SUBMIT))])
    assert (await bench.lodgment(claimed)).state is State.SENDING


@pytest.mark.parametrize("body", [b"[" * 1000, b"\xff", b'{"v":1,"lodgment":"0193567a-0000-7000-8000-000000000001"}'])
async def test_keeps_whatever_comes(bench: "Bench", body: bytes) -> None:
    message = delivery(dead(body, "re\0ceive", "co\0de"))
    await drive(Quarantine(bench.context()), [replace(message, message_id="a\0b"), message])
    async with bench.ledger.transaction(read_only=True) as tx:
        kept = await quarantine.list_(tx, 10)
        assert [await quarantine.read(tx, item.id) is not None for item in kept] == [True, True]


async def test_what_wore_out_in_the_queue_beside_a_step_is_told_as_that_step(bench: "Bench") -> None:
    died = {"x-first-death-queue": f"lodge.{later(Step.SEAL)}", "x-first-death-reason": "delivery_limit"}
    message = delivery(Outgoing(Exchange.DEAD, later(Step.SEAL), b"{}", "message", died))
    await drive(Quarantine(bench.context()), [message])
    async with bench.ledger.transaction(read_only=True) as tx:
        [kept] = await quarantine.list_(tx, 10)
    assert (kept.step, kept.code) == (Step.SEAL, "delivery.limit")


async def test_keeps_once_what_comes_again_until_it_has_left(bench: "Bench") -> None:
    """The scheduler died before its acknowledgement; and later the message fails once more."""
    message = delivery(dead(b"a message", Step.SEAL))
    stage = Quarantine(bench.context())
    await drive(stage, [message])
    await drive(stage, [message, message])
    async with bench.ledger.transaction() as tx:
        [kept] = await quarantine.list_(tx, 10)
        assert await quarantine.settle(tx, kept.id, Settling(Fate.RETURNED, "ana@desk", "mended", NOW))
    await drive(stage, [message])
    async with bench.ledger.transaction(read_only=True) as tx:
        assert await quarantine.count(tx) == 1
        assert len(await quarantine.list_(tx, 10, released=True)) == 2


@pytest.mark.parametrize(
    "other",
    [
        dead(b"another body", Step.SEAL),
        dead(b"a message", Step.SUBMIT),
        dead(b"a message", Step.SEAL, "test.other"),
        replace(dead(b"a message", Step.SEAL), message_id="other"),
    ],
    ids=["body", "step", "code", "message id"],
)
async def test_keeps_what_differs(bench: "Bench", other: Outgoing) -> None:
    await drive(Quarantine(bench.context()), [delivery(dead(b"a message", Step.SEAL)), delivery(other)])
    async with bench.ledger.transaction(read_only=True) as tx:
        assert await quarantine.count(tx) == 2
