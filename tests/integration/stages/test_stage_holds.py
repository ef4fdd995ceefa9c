"""Holds: one refusal stops everybody it reaches, and one that goes first tells whether they may go."""

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.gateway.exchange import Exchange, Request
from pipeline.ledger import holds
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.holds import WAVE, HoldState, let_go
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.states import State, Step
from pipeline.stages.record import Record
from pipeline.stages.reschedule import Reschedule
from pipeline.stages.submit import Submit
from tests.doubles.lodgments import NOW
from tests.integration.stages.conftest import deliveries, drive
from tests.integration.stages.test_stage_record import accepted

if TYPE_CHECKING:
    from pipeline.lodgment.holds import Hold
    from tests.integration.stages.conftest import Bench

EMPLOYER, OTHER = "51824753556", "53004085616"
REFUSED = Failure(
    FailureClass.THEIR_PERMISSION, "SBR.GEN.AUTH.006", "", "The employer notifies us.", Party.EMPLOYER, Blast.EMPLOYER
)


class Asking(AsicBusinessNames):
    """As a channel whose outcomes are asked for."""

    def asks(self, lodgment: Lodgment) -> bool:
        return lodgment.agency_reference is not None


@dataclass
class Agency:
    """Counts who asks."""

    requests: list[Request] = field(default_factory=list)

    async def exchange(self, request: Request) -> Exchange:
        self.requests.append(request)
        return Exchange(NOW, NOW, NOW, 200, "application/soap+xml", b"<reply/>")


async def refuse(bench: "Bench", row: Lodgment, failure: Failure = REFUSED) -> None:
    claimed, attempt = await bench.sent(row, failure)
    await drive(Record(bench.context()), deliveries(Step.RECORD, claimed, attempt=attempt))


async def the_hold(bench: "Bench") -> "Hold":
    async with bench.ledger.transaction(read_only=True) as tx:
        [found] = await holds.standing(tx, 10)
    return found.hold


async def release(bench: "Bench", row: Lodgment) -> Lodgment:
    """As the operator's command does: this one goes first."""
    async with bench.ledger.transaction() as tx:
        [hold] = await holds.find(tx, scope=Blast.EMPLOYER, key=EMPLOYER)
        await holds.change(tx, [replace(hold, state=HoldState.PROBING, canary_id=row.id, released_by="ana@desk")])
    held = await bench.lodgment(row)
    return await bench.moved(held, held.moved(State.SEALED, due_at=bench.now, reason=Reason("operator.released", "")))


async def test_a_refused_employer_is_not_asked_about_again_and_others_go_on(bench: "Bench") -> None:
    first, *rest = [await bench.sealed() for _ in range(5)]
    other = await bench.sealed(party_abn=OTHER)
    await refuse(bench, first)
    agency = Agency()
    told = await drive(Submit(bench.context(), agency), deliveries(Step.SUBMIT, *rest, other))
    assert len(agency.requests) == 1
    assert (await bench.lodgment(other)).state is State.SENDING
    hold = await the_hold(bench)
    for row in (first, *rest):
        after = await bench.lodgment(row)
        assert (after.state, after.hold_id) == (State.HELD, hold.id)
        assert after.reason is not None
        assert (after.reason.code, after.reason.who) == ("SBR.GEN.AUTH.006", Party.EMPLOYER)
    assert {json.loads(message.body)["state"] for message in told if message.routing_key != Step.RECORD} == {"held"}
    newcomer = await bench.sealed()
    await drive(Submit(bench.context(), agency), deliveries(Step.SUBMIT, newcomer))
    assert len(agency.requests) == 1
    assert (await bench.lodgment(newcomer)).sent_at is None


async def test_a_refusal_of_the_channel_stops_every_employer_on_it(bench: "Bench") -> None:
    denied = replace(
        REFUSED, kind=FailureClass.OUR_CREDENTIAL, code="SBR.GEN.FAULT.SERVICEACTIONDENIED", blast=Blast.CHANNEL
    )
    rows = [await bench.sealed(party_abn=abn) for abn in (EMPLOYER, OTHER)]
    await refuse(bench, await bench.sealed(), denied)
    agency = Agency()
    await drive(Submit(bench.context(), agency), deliveries(Step.SUBMIT, *rows))
    assert agency.requests == []
    assert {(await bench.lodgment(row)).state for row in rows} == {State.HELD}


async def test_a_refusal_of_one_lodgment_stops_nobody_else(bench: "Bench") -> None:
    await refuse(bench, await bench.sealed(), replace(REFUSED, blast=Blast.LODGMENT))
    agency = Agency()
    await drive(Submit(bench.context(), agency), deliveries(Step.SUBMIT, await bench.sealed()))
    assert len(agency.requests) == 1


async def test_two_refusals_of_one_employer_are_one_hold(bench: "Bench") -> None:
    rows = [await bench.sealed() for _ in range(2)]
    for row in rows:
        await refuse(bench, row)
    hold = await the_hold(bench)
    assert {(await bench.lodgment(row)).hold_id for row in rows} == {hold.id}


async def test_after_release_one_goes_first_and_the_rest_follow_when_it_is_taken(bench: "Bench") -> None:
    first, *rest = [await bench.sealed() for _ in range(4)]
    await refuse(bench, first)
    agency = Agency()
    await drive(Submit(bench.context(), agency), deliveries(Step.SUBMIT, *rest))
    canary = await release(bench, first)
    newcomer = await bench.sealed()
    await drive(Submit(bench.context(), agency), deliveries(Step.SUBMIT, newcomer))
    assert (agency.requests, (await bench.lodgment(newcomer)).state) == ([], State.HELD)
    claimed, attempt = await bench.sent(canary, accepted(first))
    assert await Reschedule(bench.context(), 100).sweep() == []
    await drive(Record(bench.context()), deliveries(Step.RECORD, claimed, attempt=attempt))
    told = await Reschedule(bench.context(), 100).sweep()
    assert [message.routing_key for message in told] == [Step.SUBMIT] * 4
    await drive(Submit(bench.context(), agency), deliveries(Step.SUBMIT, *rest, newcomer))
    assert len(agency.requests) == 4
    assert await Reschedule(bench.context(), 100).sweep() == []


async def test_a_first_one_that_is_refused_again_keeps_the_rest(bench: "Bench") -> None:
    first, second = await bench.sealed(), await bench.sealed()
    await refuse(bench, first)
    await drive(Submit(bench.context(), Agency()), deliveries(Step.SUBMIT, second))
    await refuse(bench, await release(bench, first))
    hold = await the_hold(bench)
    assert (hold.state, hold.canary_id) == (HoldState.STANDING, None)
    assert await Reschedule(bench.context(), 100).sweep() == []
    assert {(await bench.lodgment(row)).hold_id for row in (first, second)} == {hold.id}


async def test_thousands_are_let_go_in_portions(bench: "Bench") -> None:
    first, *rest = [await bench.sealed() for _ in range(6)]
    await refuse(bench, first)
    await drive(Submit(bench.context(), Agency()), deliveries(Step.SUBMIT, *rest))
    claimed, attempt = await bench.sent(await release(bench, first), accepted(first))
    await drive(Record(bench.context()), deliveries(Step.RECORD, claimed, attempt=attempt))
    scheduler = Reschedule(bench.context(), 2)
    assert [len(await scheduler.sweep()) for _ in range(4)] == [2, 2, 1, 0]


async def test_a_wave_of_refused_employers_is_told_once(bench: "Bench") -> None:
    rows = [await bench.sealed(party_abn=f"{number:011}") for number in range(WAVE + 3)]
    with capture_logs() as logs:
        for row in rows:
            await refuse(bench, row)
    assert [(e["employers"], e["log_level"]) for e in logs if e["event"] == "hold.wave"] == [(WAVE + 1, "warning")]


async def test_a_refusal_that_came_with_the_outcome_leaves_no_question_to_be_sent_as_the_document(
    bench: "Bench",
) -> None:
    """What is stored as its envelope is the question; sent to where documents go, it would be refused or worse."""
    bench.channel.__class__ = Asking
    row = await bench.sealed(agency_reference="message@agency.example.test")
    await refuse(bench, row)
    held = await bench.lodgment(row)
    assert (held.state, held.agency_reference, held.envelope_id) == (State.HELD, None, None)
    assert let_go(held, bench.now, Reason("operator.released", "")).state is State.RECEIVED


async def test_a_question_is_asked_in_spite_of_a_hold(bench: "Bench") -> None:
    await refuse(bench, await bench.sealed())
    bench.channel.__class__ = Asking
    agency = Agency()
    row = await bench.sealed(agency_reference="message@agency.example.test", sent_at=NOW)
    await drive(Submit(bench.context(), agency), deliveries(Step.SUBMIT, row))
    assert len(agency.requests) == 1
