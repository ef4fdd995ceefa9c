"""Every promise about one lodgment, asked of both profiles and checked in the agency's own book."""

import asyncio
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.broker.port import Exchange, Outgoing
from pipeline.ledger import attempts, lodgments, quarantine
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Attempt, Purpose
from pipeline.lodgment.outcome import Severity
from pipeline.lodgment.states import State, Step
from pipeline.sandbox.trouble import Trouble
from pipeline.stages.contract import to_step
from tests.doubles.jobs import document, job
from workers.process import Worker

if TYPE_CHECKING:
    from tests.integration.flow.conftest import Pipeline

FINAL_OR_HELD = (State.ACCEPTED, State.REJECTED, State.HELD)


TROUBLE = {
    # scenario: state, reason, attempts
    "accept": (State.ACCEPTED, None, 1),
    "accept-with-warnings": (State.ACCEPTED, "S9101", 1),
    "reject": (State.REJECTED, "S9001", 1),
    "delayed": (State.ACCEPTED, None, 2),
    "unavailable": (State.ACCEPTED, None, 2),
    "unavailable-until": (State.ACCEPTED, None, 2),
    "slow": (State.ACCEPTED, None, 1),
    "lost-reply": (State.ACCEPTED, None, 2),
    "reset-before": (State.ACCEPTED, None, 2),
    "truncated-reply": (State.ACCEPTED, None, 2),
    "expired-token": (State.ACCEPTED, None, 2),
    "invalid": (State.HELD, "asic:FAULT.INVALIDXML", 1),
    "result-fault": (State.ACCEPTED, None, 2),
}


async def test_whatever_the_agency_does_it_processes_each_reference_once(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        await pipeline.push(*(job(scenario, scenario) for scenario in TROUBLE))
        rows = {scenario: await pipeline.until(scenario, *FINAL_OR_HELD) for scenario in TROUBLE}
        ends = {name: (row.state, row.reason and row.reason.code, row.attempts) for name, row in rows.items()}
        assert ends == TROUBLE
        book = await pipeline.book()
        assert {row.reference for row in rows.values()} == set(book)
        for row in rows.values():
            assert book[row.reference]["seen"] == row.attempts
            assert book[row.reference]["processed"] == (0 if row.state is State.HELD else 1)


async def test_a_rejection_keeps_every_message_event_in_both_spellings(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        await pipeline.push(job("one", "reject"))
        events = await pipeline.events(await pipeline.until("one", State.REJECTED))
        assert len(events) > 1
        assert {event.severity for event in events} >= {Severity.ERROR}
        assert all(event.code and event.description for event in events)
        assert any(event.location for event in events)


async def test_the_same_job_again_is_the_same_lodgment_and_tells_its_outcome_again(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        listener = await pipeline.parts.broker.listen("outcome.#")
        await pipeline.push(job("one"), job("one"))
        row = await pipeline.until("one", State.ACCEPTED)
        await pipeline.push(job("one"))
        told: list[str] = []
        while len(told) < 2:
            told += [json.loads(d.body)["reference"] for d in await listener.take(10, 0)]
        assert set(told) == {row.reference}
        book = await pipeline.book()
        assert len(book) == 1
        assert book[row.reference]["seen"] == 1


async def test_the_same_id_with_other_content_is_refused_kept_and_told(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        listener = await pipeline.parts.broker.listen("outcome.*.refused.*")
        await pipeline.push(job("one"))
        await pipeline.until("one", State.ACCEPTED)
        await pipeline.push(job("one", payload={"inline": document(name="Another Bakery")}))
        kept = await pipeline.until_quarantined("job.conflict")
        assert kept.job_id == "one"
        assert "id of its own" in kept.reason
        [refusal] = await listener.take(1, 0)
        assert json.loads(refusal.body)["job_id"] == "one"
        assert len(await pipeline.book()) == 1


async def test_two_contents_under_one_id_in_one_batch_are_told_apart(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        await pipeline.push(job("one"), job("one", payload={"inline": document(name="Another Bakery")}))
        await pipeline.until_quarantined("job.conflict")
        await pipeline.until("one", State.ACCEPTED)
        assert len(await pipeline.book()) == 1


BAD = {
    # what the reason must name: the job
    "not JSON": b"not json",
    "action:": job("no-action", action="noSuchMessage"),
    "asic_bn": job("no-channel", channel="nowhere"),
    "well-formed": job("not-xml", payload={"inline": "<open>"}),
    "payload_roots": job("outside", payload={"reference": "file:///etc/hostname", "size": 1, "sha256": "0" * 64}),
}


async def test_a_bad_job_is_kept_with_its_rule_and_the_good_one_beside_it_goes_on(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        await pipeline.push(*BAD.values(), job("good"))
        await pipeline.until("good", State.ACCEPTED)
        async with pipeline.parts.ledger.transaction(read_only=True) as tx:
            kept = await quarantine.list_(tx, 10)
        assert {item.job_id for item in kept} == {None, "no-action", "no-channel", "not-xml", "outside"}
        for named in BAD:
            assert any(named in item.reason for item in kept), named
        assert len(await pipeline.book()) == 1


async def test_a_document_by_reference_is_lodged_and_a_changed_one_refused(
    pipeline: "Pipeline", tmp_path: object
) -> None:

    folder = Path(str(tmp_path)) / "payloads"
    folder.mkdir()
    pipeline.settings = pipeline.settings.model_copy(update={"payload_roots": (folder,)})
    content = document().encode()
    (folder / "good.xml").write_bytes(content)
    (folder / "changed.xml").write_bytes(content + b" ")
    promise = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    async with pipeline.running():
        await pipeline.push(
            job("good", payload={"reference": (folder / "good.xml").as_uri(), **promise}),
            job("changed", payload={"reference": (folder / "changed.xml").as_uri(), **promise}),
        )
        await pipeline.until("good", State.ACCEPTED)
        kept = await pipeline.until_quarantined("payload.promise")
        assert "payload.size" in kept.reason


async def test_lodgments_of_one_lane_go_out_one_at_a_time_and_in_order(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        await pipeline.push(job("first", "unavailable", order_key="lane"))
        await pipeline.until("first", State.PARKED)
        await pipeline.push(job("second", order_key="lane"), job("other", order_key="another lane"))
        await pipeline.until("other", State.ACCEPTED)
        first = await pipeline.until("first", State.ACCEPTED)
        second = await pipeline.until("second", State.ACCEPTED)
        assert first.finished_at is not None
        assert second.sent_at is not None
        assert first.finished_at <= second.sent_at


async def test_nothing_is_sent_before_its_time(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        not_before = datetime.now(UTC) + timedelta(seconds=8)
        await pipeline.push(job("later", not_before=not_before.isoformat()))
        waiting = await pipeline.until("later", State.PARKED)
        assert waiting.reason is not None
        assert waiting.reason.code == "job.not-before"
        row = await pipeline.until("later", State.ACCEPTED)
        assert row.sent_at is not None
        assert row.sent_at >= not_before


async def test_messages_delivered_again_after_the_end_change_nothing(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        await pipeline.push(job("one"), job("two"))
        row = await pipeline.until("one", State.ACCEPTED)
        steps = (Step.AUTHORISE, Step.SEAL, Step.SUBMIT, Step.RECORD)
        await pipeline.parts.broker.publish([to_step(step, row, row.attempt_id) for step in steps for _ in range(3)])
        await pipeline.push(job("three"))
        await pipeline.until("three", State.ACCEPTED)
        assert await pipeline.until("one", State.ACCEPTED) == row
        assert (await pipeline.book())[row.reference]["seen"] == 1


async def test_a_message_that_is_none_of_ours_ends_in_quarantine(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        await pipeline.parts.broker.publish([Outgoing(Exchange.STEPS, Step.SEAL, b"poison", "poison")])
        await pipeline.push(job("good"))
        await pipeline.until("good", State.ACCEPTED)
        kept = await pipeline.until_quarantined("message.step")
        assert kept.step == Step.SEAL


async def test_an_outage_of_the_token_service_parks_and_then_releases(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        pipeline.sandbox.script(Trouble(service="sts", outage=True))
        await pipeline.push(*(job(f"job-{n}") for n in range(5)))
        waiting = await pipeline.until("job-0", State.PARKED)
        assert waiting.reason is not None
        assert waiting.attempts == 0
        pipeline.sandbox.script(Trouble(service="sts"))
        for n in range(5):
            assert (await pipeline.until(f"job-{n}", State.ACCEPTED)).tally.failures == 0


async def test_stopping_in_the_middle_and_starting_again_loses_and_repeats_nothing(pipeline: "Pipeline") -> None:
    async with pipeline.running([Worker.INTAKE, Worker.TOKEN, Worker.SIGNER]):
        await pipeline.push(*(job(f"job-{n}") for n in range(30)))
        await pipeline.until("job-29", State.SEALED)
    async with pipeline.running():
        rows = [await pipeline.until(f"job-{n}", State.ACCEPTED) for n in range(30)]
        book = await pipeline.book()
        assert {row.reference for row in rows} == set(book)
        assert {(line["seen"], line["processed"]) for line in book.values()} == {(1, 1)}


async def test_a_lease_whose_worker_is_gone_is_settled_under_the_same_reference(pipeline: "Pipeline") -> None:
    """The claim is committed, the worker dies, and what it sent or not nobody knows."""
    async with pipeline.running([Worker.INTAKE, Worker.TOKEN, Worker.SIGNER]):
        await pipeline.push(job("one"))
        sealed = await pipeline.until("one", State.SEALED)
        assert sealed.envelope_id is not None
        now = datetime.now(UTC)
        attempt_id = pipeline.parts.context.new_id()
        url = "https://gone.invalid"
        attempt = Attempt(attempt_id, sealed.id, 1, Purpose.SUBMIT, "gone", url, sealed.envelope_id, now)
        claimed = replace(sealed.moved(State.SENDING, due_at=now), attempt_id=attempt.id, attempts=1, sent_at=now)
        async with pipeline.parts.ledger.transaction() as tx:
            await attempts.add(tx, [attempt])
            assert await lodgments.move(tx, [(sealed, claimed)]) == {sealed.id}
    async with pipeline.running():
        row = await pipeline.until("one", State.ACCEPTED)
        async with pipeline.parts.ledger.transaction(read_only=True) as tx:
            first, second = await attempts.of(tx, row.id)
        assert first.failure is not None
        assert first.failure.code == "worker.lost"
        assert (second.purpose, second.http_status) == (Purpose.RESUBMIT, 200)
        assert (await pipeline.book())[row.reference]["processed"] == 1


async def test_queues_that_were_lost_are_made_good_from_the_ledger(pipeline: "Pipeline") -> None:
    pipeline.settings = pipeline.settings.model_copy(update={"stuck_after": timedelta(seconds=2)})
    async with pipeline.running([Worker.INTAKE, Worker.SCHEDULER]):
        await pipeline.push(job("one"))
        await pipeline.until("one", State.RECEIVED)
        subscription = await pipeline.parts.broker.subscribe(Step.AUTHORISE, 10)
        lost = await asyncio.wait_for(subscription.take(1, 0), 10)
        await subscription.ack(lost)
        await subscription.close()
    async with pipeline.running():
        row = await pipeline.until("one", State.ACCEPTED)
        assert (await pipeline.book())[row.reference]["processed"] == 1


async def test_a_credential_that_the_token_service_refuses_holds_with_who_and_what(pipeline: "Pipeline") -> None:
    async with pipeline.running():
        await pipeline.push(job("expired", credential="66999000004"), job("absent", credential="51824753556"))
        expired = await pipeline.until("expired", State.HELD)
        absent = await pipeline.until("absent", State.HELD)
        assert expired.reason is not None
        assert absent.reason is not None
        assert expired.reason.code == "E2015"
        assert absent.reason.code == "keystore.not-found"
        assert {expired.reason.who, absent.reason.who} <= {Party.OPERATOR}
        assert await pipeline.book() == {}
