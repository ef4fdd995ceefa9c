"""Fair shares through the stages: who is parked at the door, and who is called first when there is room."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from pipeline.gateway.documents import DocumentStore
from pipeline.ledger import lodgments
from pipeline.lodgment.shares import SHARE_TURN, SharePolicy
from pipeline.lodgment.states import State, Step
from pipeline.stages.receive import Receive
from pipeline.stages.reschedule import Reschedule
from tests.doubles.jobs import job
from tests.integration.stages.conftest import drive
from tests.integration.stages.test_stage_receive import pushed

if TYPE_CHECKING:
    from pipeline.broker.port import Outgoing
    from pipeline.lodgment.lodgment import Lodgment
    from tests.integration.stages.conftest import Bench

POLICY = SharePolicy(each=timedelta(seconds=1), burst=timedelta(seconds=10.5))


async def receive(bench: "Bench", sender: str, *job_ids: str) -> "list[Outgoing]":
    context = replace(bench.context(), shares=POLICY)
    batch = pushed(*(job(job_id, sender={"id": sender, "type": "REGA"}) for job_id in job_ids))
    return await drive(Receive(context, DocumentStore((), 50_000_000), ""), batch)


async def taken_in(bench: "Bench", *job_ids: str) -> "list[Lodgment]":
    async with bench.ledger.transaction(read_only=True) as tx:
        found = await lodgments.known_jobs(tx, job_ids)
    return [found[job_id] for job_id in job_ids]


async def test_beyond_its_burst_a_sender_waits_and_others_go_at_once(bench: "Bench") -> None:
    many = [f"many-{number:02}" for number in range(30)]
    told = await receive(bench, "BUREAU", *many[:20]) + await receive(bench, "BUREAU", *many[20:])
    assert len(told) == 10
    rows = await taken_in(bench, *many)
    assert [row.state for row in rows] == [State.RECEIVED] * 10 + [State.PARKED] * 20
    assert {row.reason.code for row in rows[10:] if row.reason is not None} == {SHARE_TURN}
    waiting = [row.due_at for row in rows[10:] if row.due_at is not None]
    assert waiting == sorted(set(waiting))
    assert [message.routing_key for message in await receive(bench, "SMALL", "few")] == [Step.AUTHORISE]


async def test_when_there_is_room_the_earliest_turn_is_called_whoever_came_first(bench: "Bench") -> None:
    await receive(bench, "BUREAU", *(f"many-{number:02}" for number in range(40)))
    await receive(bench, "SMALL", *(f"few-{number:02}" for number in range(13)))
    told = await Reschedule(bench.context(), 100).call_forward(6)
    called = {json.loads(message.body)["lodgment"] for message in told}
    expected = await taken_in(bench, *(f"{name}-{number:02}" for name in ("many", "few") for number in (10, 11, 12)))
    assert called == {str(row.id) for row in expected}


async def test_a_turn_that_has_come_needs_no_room(bench: "Bench") -> None:
    await receive(bench, "BUREAU", *(f"many-{number:02}" for number in range(12)))
    [tenth, last] = await taken_in(bench, "many-10", "many-11")
    assert tenth.due_at is not None
    bench.now = tenth.due_at
    [message] = await Reschedule(bench.context(), 100).sweep()
    assert json.loads(message.body)["lodgment"] == str(tenth.id)
    assert (await bench.lodgment(last)).state is State.PARKED


async def test_a_job_that_comes_again_costs_no_turn(bench: "Bench") -> None:
    for _ in range(20):
        await receive(bench, "BUREAU", "one")
    assert [message.routing_key for message in await receive(bench, "BUREAU", "two")] == [Step.AUTHORISE]
