"""Full file replacements: refused at the door where that is known, and before sending where it is known only then."""

import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from pipeline.broker.port import Delivery, Outgoing
from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.gateway.documents import DocumentStore
from pipeline.gateway.exchange import Exchange, Request
from pipeline.ledger import lodgments
from pipeline.lodgment.decisions import Closedown, RetryPolicy
from pipeline.lodgment.job import Payload
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.states import State, Step
from pipeline.stages.receive import Receive
from pipeline.stages.reschedule import Reschedule
from pipeline.stages.submit import Submit
from tests.doubles import sbr2, stp
from tests.doubles.lodgments import NOW, fresh_id
from tests.integration.stages.conftest import deliveries, drive

if TYPE_CHECKING:
    from tests.integration.stages.conftest import Bench

_SUBMISSION, _AMENDS = "Rp/Payroll/InteractionTransactionId", "Rp/Payroll/AmendmentI"


@dataclass
class Agency:
    requests: list[Request] = field(default_factory=list)

    async def exchange(self, request: Request) -> Exchange:
        self.requests.append(request)
        return Exchange(NOW, NOW, NOW, 200, "application/soap+xml", b"<reply/>")


def pushed(job_id: str, submission: str, *, replaces: bool = False, action: str = "Submit") -> Delivery:
    fields = {_SUBMISSION: submission, _AMENDS: "true" if replaces else "false"}
    payload = Payload(inline=stp.pay_event(fields).decode())
    job = sbr2.make_job(action).model_copy(update={"job_id": job_id, "payload": payload})
    return Delivery(job.model_dump_json().encode(), job_id, {}, redelivered=False, token=object())


async def receive(bench: "Bench", *batch: Delivery) -> list[Outgoing]:
    """Each job on its own, a moment apart: what comes later has the later id."""
    channel = sbr2.make_channel()
    context = replace(bench.context(), channels={channel.name: channel})
    told = []
    for one in batch:
        bench.now = max(bench.now, sbr2.NOW) + timedelta(seconds=1)
        told += await drive(Receive(context, DocumentStore((), 50_000_000), "synthetic"), [one])
    return told


async def taken_in(bench: "Bench", job_id: str) -> Lodgment:
    async with bench.ledger.transaction(read_only=True) as tx:
        return (await lodgments.known_jobs(tx, [job_id]))[job_id]


async def settle(bench: "Bench", job_id: str, state: State = State.ACCEPTED) -> None:
    row = await taken_in(bench, job_id)
    await bench.moved(row, row.moved(state))


def refusals(told: list[Outgoing]) -> list[tuple[str, str]]:
    bodies = [json.loads(message.body) for message in told]
    return [(body["job_id"], body["reason"]["code"]) for body in bodies if body.get("event") == "refused"]


async def test_a_replacement_is_taken_in_before_the_original_has_its_outcome(bench: "Bench") -> None:
    told = await receive(bench, pushed("one", "S1"), pushed("two", "S1", replaces=True))
    assert refusals(told) == []
    assert (await taken_in(bench, "two")).order_key == (await taken_in(bench, "one")).order_key


async def test_an_event_is_not_replaced_twice(bench: "Bench") -> None:
    await receive(bench, pushed("one", "S1"), pushed("two", "S1", replaces=True))
    await settle(bench, "one")
    await settle(bench, "two")
    told = await receive(bench, pushed("three", "S1", replaces=True))
    assert refusals(told) == [("three", "replacement.again")]
    [body] = [json.loads(message.body) for message in told]
    assert "EM14160" in body["reason"]["text"]


async def test_only_the_latest_event_is_replaced(bench: "Bench") -> None:
    await receive(bench, pushed("one", "S1"), pushed("two", "S2"))
    await settle(bench, "one")
    await settle(bench, "two")
    assert refusals(await receive(bench, pushed("three", "S1", replaces=True))) == [("three", "replacement.latest")]


async def test_an_update_event_is_not_replaced(bench: "Bench") -> None:
    await receive(bench, pushed("one", "S1", action="Update"))
    assert refusals(await receive(bench, pushed("two", "S1", replaces=True))) == [("two", "replacement.update")]


async def test_a_rejected_event_is_lodged_anew_not_replaced(bench: "Bench") -> None:
    await receive(bench, pushed("one", "S1"))
    await settle(bench, "one", State.REJECTED)
    assert refusals(await receive(bench, pushed("two", "S1", replaces=True))) == [("two", "replacement.void")]


async def test_within_one_batch_the_original_is_known(bench: "Bench") -> None:
    channel = sbr2.make_channel()
    context = replace(bench.context(), channels={channel.name: channel})
    bench.now = sbr2.NOW
    batch = [pushed("one", "S1", action="Update"), pushed("two", "S1", replaces=True)]
    told = await drive(Receive(context, DocumentStore((), 50_000_000), "synthetic"), batch)
    assert refusals(told) == [("two", "replacement.update")]


async def test_an_event_lodged_elsewhere_may_be_replaced_and_that_is_noted(bench: "Bench") -> None:
    with capture_logs() as logs:
        told = await receive(bench, pushed("one", "S0"), pushed("two", "S1", replaces=True))
    assert refusals(told) == []
    assert [entry["job"] for entry in logs if entry["event"] == "receive.replacement_elsewhere"] == ["two"]


async def in_lane(bench: "Bench", number: int, **facts: str) -> Lodgment:
    """A sealed event of one lane; its id has the place `number`."""
    return await bench.sealed(order_key="stp/lane", facts=facts, id=fresh_id(NOW + timedelta(seconds=number)))


async def test_what_the_original_became_decides_before_the_replacement_is_sent(bench: "Bench") -> None:
    agency = Agency()
    original = await in_lane(bench, 0, submission="S1")
    replacing = await in_lane(bench, 1, submission="S1", replaces="true")
    after = await in_lane(bench, 2, submission="S2")
    stage = Submit(bench.context(), agency)
    await drive(stage, deliveries(Step.SUBMIT, replacing, after))
    assert (await bench.lodgment(replacing)).state is State.PARKED
    await bench.moved(original, original.moved(State.REJECTED))
    bench.now += timedelta(minutes=2)
    sweep = await Reschedule(bench.context(), 10).sweep()
    assert [message.routing_key for message in sweep] == [Step.SUBMIT]
    told = await drive(stage, deliveries(Step.SUBMIT, replacing))
    stopped = await bench.lodgment(replacing)
    assert stopped.reason is not None
    assert (stopped.state, stopped.reason.code) == (State.CANCELLED, "replacement.void")
    assert stopped.finished_at == bench.now
    assert agency.requests == []
    assert sorted(message.routing_key.split(".")[0] for message in told) == ["outcome", "submit"]
    assert (await bench.lodgment(after)).state is State.SEALED


async def test_during_a_closedown_a_replacement_waits_until_it_ends_and_other_events_go(bench: "Bench") -> None:
    end = NOW + timedelta(days=9)

    class Closed(AsicBusinessNames):
        def policy(self, service: str, action: str) -> RetryPolicy:
            return replace(super().policy(service, action), closedowns=(Closedown(NOW, end),))

    bench.channel.__class__ = Closed
    agency = Agency()
    replacing = await bench.sealed(order_key="stp/one", facts={"submission": "S1", "replaces": "true"})
    ordinary = await bench.sealed(order_key="stp/two", facts={"submission": "S2"})
    await drive(Submit(bench.context(), agency), deliveries(Step.SUBMIT, replacing, ordinary))
    parked = await bench.lodgment(replacing)
    assert parked.reason is not None
    assert (parked.state, parked.due_at, parked.reason.code) == (State.PARKED, end, "replacement.closedown")
    assert len(agency.requests) == 1
    bench.now = end
    sweep = await Reschedule(bench.context(), 10).sweep()
    assert str(replacing.id) in {json.loads(message.body)["lodgment"] for message in sweep}
    await drive(Submit(bench.context(), agency), deliveries(Step.SUBMIT, replacing))
    assert len(agency.requests) == 2
