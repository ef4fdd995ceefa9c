"""Single Touch Payroll through the whole pipeline, on both profiles, and what the agency's own book says of it."""

import signal
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.interfaces.cli import operate
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.outcome import Severity
from pipeline.lodgment.states import State
from pipeline.sandbox.sbr2_scenarios import Sbr2Scenario
from pipeline.sandbox.trouble import Trouble
from tests.doubles.pay_jobs import SOFTWARE_ID, pay_job, pay_run
from tests.doubles.stp import ABN
from tests.services.sandbox_process import SandboxProcess

if TYPE_CHECKING:
    from tests.integration.flow.conftest import Pipeline

OTHER_ABN = "53004085616"
DOMAIN = "pipeline.sandbox.invalid"
ENDS = (State.ACCEPTED, State.PARTIALLY_ACCEPTED, State.REJECTED, State.HELD)
OK = "CMN.ATO.GEN.OK"

TROUBLE = {
    # scenario: state, reason, pushes, pulls
    Sbr2Scenario.ACCEPT: (State.ACCEPTED, OK, 1, 1),
    Sbr2Scenario.ACCEPT_WITH_WARNINGS: (State.ACCEPTED, "CMN.ATO.PAYEVNTEMP.000180", 1, 1),
    Sbr2Scenario.PARTIALLY_ACCEPT: (State.PARTIALLY_ACCEPTED, "CMN.ATO.GEN.402043", 1, 1),
    Sbr2Scenario.REJECT: (State.REJECTED, "CMN.ATO.PAYEVNT.000179", 1, 1),
    Sbr2Scenario.UNAVAILABLE: (State.ACCEPTED, OK, 2, 1),
    Sbr2Scenario.RESET_BEFORE: (State.ACCEPTED, OK, 2, 1),
    Sbr2Scenario.EXPIRED_TOKEN: (State.ACCEPTED, OK, 2, 1),
    Sbr2Scenario.SLOW: (State.ACCEPTED, OK, 1, 1),
    Sbr2Scenario.LOST_REPLY: (State.ACCEPTED, OK, 2, 1),
    Sbr2Scenario.TRUNCATED_RECEIPT: (State.ACCEPTED, OK, 2, 1),
    Sbr2Scenario.WRONG_RECEIPT: (State.ACCEPTED, OK, 2, 1),
    Sbr2Scenario.DUPLICATE: (State.ACCEPTED, OK, 2, 1),
    Sbr2Scenario.TRUNCATED_RESPONSE: (State.ACCEPTED, OK, 1, 2),
    Sbr2Scenario.BROKEN_BOUNDARY: (State.ACCEPTED, OK, 1, 2),
    Sbr2Scenario.BROKEN_GZIP: (State.ACCEPTED, OK, 1, 2),
    Sbr2Scenario.WRONG_REFERENCE: (State.ACCEPTED, OK, 1, 2),
    Sbr2Scenario.TAMPERED_RESPONSE: (State.ACCEPTED, OK, 1, 2),
    Sbr2Scenario.UNSIGNED_RESPONSE: (State.ACCEPTED, OK, 1, 2),
}
"""All but `delayed`, whose pulls depend on the clock, and what holds the employer, and so all the others."""


def message_id(row: Lodgment) -> str:
    return f"{row.reference}@{DOMAIN}"


async def line_of(pipeline: "Pipeline", row: Lodgment) -> dict[str, Any]:
    return (await pipeline.book())[message_id(row)]


async def let_go(pipeline: "Pipeline", row: Lodgment) -> None:
    """As `lodge release` does it."""
    async with pipeline.parts.ledger.transaction() as tx:
        await operate._release_ids(tx, [str(row.id)], "the notification is there")


async def test_whatever_the_gateway_does_each_message_is_processed_once(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        await pipeline.push(*(pay_job(one, one) for one in TROUBLE))
        rows = {one: await pipeline.until(one, *ENDS) for one in TROUBLE}
        book = await pipeline.book()
        ends = {}
        for one, row in rows.items():
            line = book[message_id(row)]
            ends[one] = (row.state, row.reason and row.reason.code, line["seen"], line["pulls"])
            assert line["processed"] == 1, one
            assert line["violations"] is None, one
            assert (line["channel"], line["gateway"]) == ("sbr2_stp", "first")
            assert (line["sender"], line["software_id"]) == (ABN, SOFTWARE_ID)
        assert ends == TROUBLE
        assert len(book) == len(TROUBLE)


async def test_every_event_names_the_payee_that_it_is_about(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        await pipeline.push(
            pay_job("partly", "partially-accept"), pay_job("wholly", "reject"), pay_job("odd", "accept-with-warnings")
        )
        partly = await pipeline.events(await pipeline.until("partly", State.PARTIALLY_ACCEPTED))
        wholly = await pipeline.events(await pipeline.until("wholly", State.REJECTED))
        odd = await pipeline.events(await pipeline.until("odd", State.ACCEPTED))
    about = [(one.severity, one.record, one.payee, one.description) for one in partly]
    assert about == [(Severity.ERROR, "1.3", "SYN-2", "SYNTHETIC: the number of the record 1.3 is odd.")]
    assert [(one.record, one.payee) for one in wholly] == [("1.1", None), ("1.2", "SYN-1")]
    assert wholly[0].description == "SYNTHETIC: the branch does not fit the pay event 1.1."
    assert [(one.severity, one.payee) for one in odd] == [(Severity.INFORMATION, None), (Severity.WARNING, "SYN-1")]


async def test_an_outcome_that_takes_its_time_is_asked_for_until_it_is_there(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        await pipeline.push(pay_job("later", "delayed;seconds=15"))
        waiting = await pipeline.until("later", State.AWAITING)
        assert waiting.agency_reference == message_id(waiting)
        row = await pipeline.until("later", State.ACCEPTED)
        line = await line_of(pipeline, row)
        assert (line["seen"], line["processed"]) == (1, 1)
        assert line["pulls"] > 1
        assert row.attempts == 1 + line["pulls"]


@pytest.mark.parametrize("scenario", ["not-authorised", "not-authorised-later"])
async def test_a_permission_that_is_missing_holds_until_it_is_released_and_is_pushed_again(
    pipeline: "Pipeline", scenario: str
) -> None:
    async with pipeline.running():
        await pipeline.push(pay_job("one", f"{scenario};times=2"))
        for pushes in (1, 2):
            held = await pipeline.until("one", State.HELD)
            assert held.reason is not None
            assert (held.reason.code, held.reason.who) == ("SBR.GEN.AUTH.006", Party.EMPLOYER)
            assert (await line_of(pipeline, held))["seen"] == pushes
            await let_go(pipeline, held)
        row = await pipeline.until("one", State.ACCEPTED)
        line = await line_of(pipeline, row)
        assert (line["seen"], line["processed"]) == (3, 1)


async def test_a_document_that_was_lodged_before_is_a_duplicate_and_ends_as_the_original_did(
    pipeline: "Pipeline",
) -> None:
    document = pay_run("same", "reject")
    async with pipeline.running():
        await pipeline.push(pay_job("first", document=document))
        first = await pipeline.until("first", State.REJECTED)
        await pipeline.push(pay_job("second", document=document))
        second = await pipeline.until("second", State.REJECTED)
        assert second.agency_reference == message_id(first) != message_id(second)
        original, again = await line_of(pipeline, first), await line_of(pipeline, second)
        assert (original["seen"], original["processed"], original["pulls"]) == (1, 1, 2)
        assert (again["seen"], again["processed"], again["pulls"]) == (1, 0, 0)
        assert [one.code for one in await pipeline.events(first)] == [one.code for one in await pipeline.events(second)]


async def test_what_went_in_at_one_gateway_is_asked_for_there_when_another_has_become_the_usual_one(
    pipeline: "Pipeline",
) -> None:
    async with pipeline.running():
        await pipeline.push(pay_job("before", "delayed;seconds=4"))
        await pipeline.until("before", State.AWAITING)
        environment = pipeline.parts.environment
    assert environment.sbr2 is not None
    switched = environment.model_copy(update={"sbr2": environment.sbr2.model_copy(update={"gateway": "second"})})
    pipeline.settings = pipeline.settings.model_copy(update={"environments": {"sandbox": switched}})
    async with pipeline.running():
        await pipeline.push(pay_job("after"))
        rows = [await pipeline.until(job_id, State.ACCEPTED) for job_id in ("before", "after")]
        lines = [await line_of(pipeline, row) for row in rows]
    assert [line["gateway"] for line in lines] == ["first", "second"]
    assert [(line["seen"], line["processed"], line["violations"]) for line in lines] == [(1, 1, None)] * 2


@pytest.mark.parametrize("scenario", ["tampered-response", "unsigned-response"])
async def test_a_response_that_the_agency_did_not_sign_as_it_is_is_never_believed(
    pipeline: "Pipeline", scenario: str
) -> None:
    async with pipeline.running():
        await pipeline.push(pay_job("one", f"{scenario};times=-1"))
        row = await pipeline.until("one", State.AWAITING, holds=lambda one: one.attempts >= 3)
        assert row.reason is not None
        assert row.reason.code == ("reply.digest" if scenario == "tampered-response" else "reply.shape")
        assert await pipeline.events(row) == []


async def test_a_closed_agency_takes_documents_in_and_nobody_gives_up_asking(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        pipeline.sandbox.script(Trouble(service="sbr2-pull", outage=True))
        await pipeline.push(pay_job("one"), pay_job("two"))
        for job_id in ("one", "two"):
            row = await pipeline.until(job_id, State.AWAITING, holds=lambda one: one.attempts >= 3)
            assert row.tally.failures == 0
        pipeline.sandbox.script(Trouble(service="sbr2-pull"))
        for job_id in ("one", "two"):
            line = await line_of(pipeline, await pipeline.until(job_id, State.ACCEPTED))
            assert (line["seen"], line["processed"]) == (1, 1)
            assert line["pulls"] >= 3


async def test_a_gateway_that_takes_nothing_parks_what_is_pushed_and_charges_nothing(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        pipeline.sandbox.script(Trouble(service="sbr2-push", outage=True))
        await pipeline.push(pay_job("one"))
        await pipeline.until(
            "one", State.PARKED, holds=lambda row: row.reason is not None and row.reason.code == "http.503"
        )
        pipeline.sandbox.script(Trouble(service="sbr2-push"))
        row = await pipeline.until("one", State.ACCEPTED)
        assert row.tally.failures == 0
        assert (await line_of(pipeline, row))["seen"] == 1


async def test_lodging_under_a_software_id_that_the_agency_does_not_take_is_held_with_its_code(
    pipeline: "Pipeline",
) -> None:
    async with pipeline.running():
        # Registered against its rule: a person said that the ATO knows the client by it.
        await pipeline.register("0004785935", OTHER_ABN)
        document = pay_run("one", abn=OTHER_ABN)
        await pipeline.push(pay_job("one", document=document, employer={"abn": OTHER_ABN}, software_id=None))
        held = await pipeline.until("one", State.HELD)
        assert held.reason is not None
        assert held.reason.code == "SBR.GEN.AUTH.008"
        assert await pipeline.book() == {}


async def test_what_was_acknowledged_survives_the_death_of_the_gateway_before_its_outcome(
    pipeline: "Pipeline",
) -> None:
    process = SandboxProcess(pipeline.sandbox.home)
    pipeline.sandbox = process.address
    pipeline.settings = pipeline.settings.model_copy(update={"sandbox_url": process.address.url})
    try:
        await process.start()
        async with pipeline.running():
            jobs = [f"job-{number}" for number in range(5)]
            await pipeline.push(*(pay_job(one, "delayed;seconds=2") for one in jobs))
            for one in jobs:
                await pipeline.until(one, State.AWAITING)
            assert process.end(signal.SIGKILL) == -signal.SIGKILL
            await process.start()
            for one in jobs:
                line = await line_of(pipeline, await pipeline.until(one, State.ACCEPTED))
                assert (line["seen"], line["processed"]) == (1, 1)
    finally:
        process.close()
