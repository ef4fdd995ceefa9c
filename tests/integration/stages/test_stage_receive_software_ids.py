"""receive on a channel that carries software ids: looked up for the batch, never taken from a job that says another."""

import json
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.broker.port import Delivery, Outgoing
from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.gateway.documents import DocumentStore
from pipeline.ledger import lodgments, quarantine, reports, software_ids
from pipeline.lodgment.lodgment import Lodgment
from pipeline.lodgment.software_id import SoftwareId
from pipeline.lodgment.states import Step
from pipeline.lodgment.subscription import Checked, Origin, RegisteredId, Subscription
from pipeline.stages.receive import Receive
from tests.doubles.asic import make_profile
from tests.doubles.jobs import ABN, job
from tests.doubles.lodgments import NOW
from tests.integration.stages.conftest import drive

if TYPE_CHECKING:
    from tests.integration.stages.conftest import Bench

AGENT_ABN = "11000002568"
EMPLOYER, PRACTICE = Subscription("Pay", ABN), Subscription("Pay", AGENT_ABN)
IDS = {EMPLOYER: "0004785936", PRACTICE: "0000000011", Subscription("Wages", ABN): "1234567890"}


class CarriesSoftwareIds(AsicBusinessNames):
    """The channel, were its agency to ask for software ids."""

    @property
    def needs_software_id(self) -> bool:
        return True


@pytest.fixture
async def carrying(bench: "Bench") -> "Bench":
    """A bench whose channel needs software ids, some of them registered; one is allowed though it breaks the rule."""
    bench.channel = CarriesSoftwareIds(make_profile())
    async with bench.ledger.transaction() as tx:
        await software_ids.add(tx, [registered(SoftwareId(digits), whose) for whose, digits in IDS.items()])
    return bench


def registered(software_id: SoftwareId, whose: Subscription) -> RegisteredId:
    checked = Checked.CONTROL_DIGIT if software_id.control_fault is None else Checked.ALLOWED
    return RegisteredId(software_id, whose, Origin.IMPORTED, checked, NOW, "ana@desk")


async def receive(bench: "Bench", *jobs: bytes, product: str | None = "Pay") -> list[Outgoing]:
    stage = Receive(bench.context(), DocumentStore((), 50_000_000), "", product)
    return await drive(
        stage, [Delivery(body, str(n), {}, redelivered=False, token=object()) for n, body in enumerate(jobs)]
    )


async def stored(bench: "Bench", job_id: str = "one") -> Lodgment | None:
    async with bench.ledger.transaction(read_only=True) as tx:
        return (await lodgments.known_jobs(tx, [job_id])).get(job_id)


async def software_id(bench: "Bench", job_id: str = "one") -> str | None:
    row = await stored(bench, job_id)
    assert row is not None
    return row.software_id


async def refusal(bench: "Bench", **changes: Any) -> dict[str, str]:
    """The reason in the refusal event of a job of which nothing is stored but its message in quarantine."""
    [told] = await receive(bench, job("one", **changes))
    event: dict[str, Any] = json.loads(told.body)
    assert event["event"] == "refused"
    assert await stored(bench) is None
    async with bench.ledger.transaction(read_only=True) as tx:
        [kept] = await quarantine.list_(tx, 10)
    reason: dict[str, str] = event["reason"]
    assert (kept.job_id, kept.code, kept.reason) == ("one", reason["code"], reason["text"])
    return reason


async def test_a_job_that_says_nothing_goes_under_the_registered_id(carrying: "Bench") -> None:
    [onward] = await receive(carrying, job("one"))
    assert onward.routing_key == Step.AUTHORISE
    assert await software_id(carrying) == "0004785936"


async def test_an_agents_job_goes_under_the_id_of_its_practice(carrying: "Bench") -> None:
    await receive(carrying, job("one", agent={"abn": AGENT_ABN}))
    assert await software_id(carrying) == "0000000011"


async def test_a_job_of_another_product_goes_under_the_id_of_that_product(carrying: "Bench") -> None:
    await receive(carrying, job("one", software_product="Wages"))
    assert await software_id(carrying) == "1234567890"


async def test_a_job_that_says_the_registered_id_is_taken_even_where_that_breaks_the_rule(carrying: "Bench") -> None:
    await receive(carrying, job("one", software_product="Wages", software_id="1234567890"))
    assert await software_id(carrying) == "1234567890"


async def test_a_job_that_says_another_id_is_refused_before_it_could_hold_its_employer(carrying: "Bench") -> None:
    reason = await refusal(carrying, software_id="0004789536")
    assert reason["code"] == "software-id.mismatch"
    assert "SBR.GEN.AUTH.008" in reason["text"]


async def test_an_id_that_breaks_the_rule_and_is_not_registered_is_refused_with_the_rule(carrying: "Bench") -> None:
    reason = await refusal(carrying, software_product="New", software_id="1234567890")
    assert reason["code"] == "software-id.unregistered"
    assert "control digit must be 5" in reason["text"]


async def test_without_a_registered_id_the_refusal_names_the_command(carrying: "Bench") -> None:
    reason = await refusal(carrying, employer={"wpn": "123456789"})
    assert reason["code"] == "software-id.unregistered"
    assert 'lodge software-ids generate 123456789 --product "Pay"' in reason["text"]


async def test_without_any_product_the_refusal_says_where_to_name_it(carrying: "Bench") -> None:
    [told] = await receive(carrying, job("one"), product=None)
    assert json.loads(told.body)["reason"]["code"] == "software-id.product"
    assert await receive(carrying, job("two", software_product="Pay"), product=None)
    assert await software_id(carrying, "two") == "0004785936"


async def test_after_registering_the_same_job_is_taken(carrying: "Bench") -> None:
    whose = Subscription("Pay", "123456789")
    await receive(carrying, job("one", employer={"wpn": "123456789"}))
    async with carrying.ledger.transaction() as tx:
        await software_ids.add(tx, [registered(SoftwareId.of_number(9), whose)])
    await receive(carrying, job("one", employer={"wpn": "123456789"}))
    assert await software_id(carrying) == "0000000099"


async def test_what_was_received_keeps_its_id_and_is_answered_after_the_id_is_retired(carrying: "Bench") -> None:
    await receive(carrying, job("one"))
    async with carrying.ledger.transaction() as tx:
        await software_ids.retire(tx, SoftwareId("0004785936"), "ana@desk", "client left", NOW)
    [again] = await receive(carrying, job("one"))
    assert again.routing_key == Step.AUTHORISE
    assert await software_id(carrying) == "0004785936"
    [told] = await receive(carrying, job("two"))
    assert json.loads(told.body)["reason"]["code"] == "software-id.unregistered"


async def test_one_bad_job_does_not_touch_the_others_of_its_batch(carrying: "Bench") -> None:
    batch = [job(f"job-{n}", software_id="0004789536" if n == 2 else None) for n in range(5)]
    told = await receive(carrying, *batch)
    assert [json.loads(one.body).get("event") for one in told].count("refused") == 1
    for n in (0, 1, 3, 4):
        assert await software_id(carrying, f"job-{n}") == "0004785936"


async def test_a_batch_is_looked_up_in_one_statement(carrying: "Bench") -> None:
    asked: list[str] = []

    def note(_connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    engine = carrying.ledger._engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", note)
    await receive(carrying, *(job(f"job-{n}", agent={"abn": AGENT_ABN} if n % 2 else None) for n in range(40)))
    sa.event.remove(engine, "before_cursor_execute", note)
    assert len([one for one in asked if "FROM" in one and "software_id.retired_at IS NULL" in one]) == 1


async def test_a_channel_that_carries_none_takes_jobs_as_before(bench: "Bench") -> None:
    await receive(bench, job("one"), job("two", software_id="0004789536"), product=None)
    assert await software_id(bench, "one") is None
    assert await software_id(bench, "two") == "0004789536"
    [told] = await receive(bench, job("three", software_id="1234567890"))
    rule = "software_id: control digit must be 5 (sum of the first nine digits, modulo 10), not 0"
    assert json.loads(told.body)["reason"] == {"code": "software-id.rule", "text": rule, "who": "producer"}


async def test_the_story_of_a_lodgment_tells_where_its_id_comes_from(carrying: "Bench") -> None:
    await receive(carrying, job("one", software_product="Wages"))
    row = await stored(carrying)
    assert row is not None
    async with carrying.ledger.transaction(read_only=True) as tx:
        story = await reports.timeline(tx, row.id)
    assert story is not None
    assert story.software_id == registered(SoftwareId("1234567890"), Subscription("Wages", ABN))
