"""The messages on the wire: what other programs may rely on."""

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.broker.messages import (
    OutcomeEvent,
    StepMessage,
    outcome_event,
    outcome_key,
    read_step_message,
    refusal_event,
    step_message,
)
from pipeline.broker.port import Exchange
from pipeline.broker.topology import QUARANTINE, Topology
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.failures import Party
from pipeline.lodgment.job import LodgmentJob, read_job
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.outcome import MessageEvent, Severity
from pipeline.lodgment.references import MessageReferenceNumber
from pipeline.lodgment.states import State
from tests.doubles.lodgments import a_lodgment

NOW = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
ID = UUID("0193567a-0000-7000-8000-000000000001")
OTHER = UUID("0193567a-0000-7000-8000-000000000002")


def lodgment(state: State = State.REJECTED) -> Lodgment:
    """Synthetic, with everything set that an event tells."""
    return replace(
        a_lodgment(NOW),
        id=ID,
        reference=MessageReferenceNumber(str(ID)),
        job_id="job-1",
        due_date=date(2026, 11, 30),
        payload_id=OTHER,
        state=state,
        version=4,
        due_at=None,
        reason=Reason("CMN.001", "The name is taken.", Party.EMPLOYER),
        agency_reference="A-1",
        document_number="7E0001234",
    )


@pytest.mark.parametrize("attempt", [None, OTHER])
def test_a_step_message_carries_ids_and_nothing_else(attempt: UUID | None) -> None:
    body = step_message(ID, attempt)
    assert read_step_message(body) == StepMessage(ID, attempt)
    assert json.loads(body).keys() <= {"v", "lodgment", "attempt"}
    assert len(body) < 1024


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"v":2,"lodgment":"0193567a-0000-7000-8000-000000000001"}',
        b'{"v":1}',
        b'{"v":1,"lodgment":7}',
        b'{"v":1,"lodgment":"not-an-id"}',
        b'{"v":1,"lodgment":"0193567a-0000-7000-8000-000000000001","attempt":null}',
        b'{"v":1,"lodgment":"0193567a-0000-7000-8000-000000000001","payload":"<a/>"}',
        b'{"v":1,"lodgment":"0193567a-0000-7000-8000-000000000001"' + b" " * 1024 + b"}",
        b'{"v":1,"lodgment":"0193567a-0000-7000-8000-000000000001"}{}',
        b"[" * 1024,
    ],
    ids=range(14),
)
def test_refuses_a_step_message_that_the_pipeline_did_not_write(body: bytes) -> None:
    with pytest.raises(RefusedError) as refusal:
        read_step_message(body)
    assert refusal.value.code == "message.step"


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_other_bytes_are_refused_and_nothing_else_happens(body: bytes) -> None:
    with pytest.raises(RefusedError):
        read_step_message(body)


def test_an_outcome_event_is_the_documented_json() -> None:
    rule = MessageEvent("CMN.001", Severity.ERROR, "The name is taken.", "/bn/name", ("Acme",))
    message = outcome_event(lodgment(), [rule], NOW)
    assert (message.exchange, message.routing_key) == (Exchange.OUTCOMES, "outcome.asic_bn.rejected.51824753556")
    assert message.message_id == f"{ID}:4"
    assert not message.mandatory
    assert json.loads(message.body) == {
        "v": 1,
        "event": "rejected",
        "job_id": "job-1",
        "lodgment": str(ID),
        "reference": str(ID),
        "channel": "asic_bn",
        "service": "business-names",
        "action": "bnLodgeApplication",
        "abn": "51824753556",
        "state": "rejected",
        "reason": {"code": "CMN.001", "text": "The name is taken.", "who": "employer"},
        "agency_reference": "A-1",
        "document_number": "7E0001234",
        "events": [
            {
                "code": "CMN.001",
                "severity": "Error",
                "description": "The name is taken.",
                "location": "/bn/name",
                "details": ["Acme"],
                "payee": None,
                "record": None,
            }
        ],
        "at": "2026-11-23T01:02:03Z",
    }


def test_an_outcome_event_reads_back_as_it_was() -> None:
    message = outcome_event(replace(lodgment(State.ACCEPTED), reason=None), [], NOW)
    event = OutcomeEvent.read(message.body)
    assert (event.event, event.lodgment, event.reason, event.events, event.at) == ("accepted", ID, None, (), NOW)


def test_an_outcome_event_of_tomorrow_with_more_fields_is_still_read() -> None:
    fields = json.loads(outcome_event(lodgment(), [], NOW).body)
    assert OutcomeEvent.read(json.dumps({**fields, "bureau": "x"}).encode()).job_id == "job-1"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"v":2}', b"\xff"])
def test_refuses_what_is_no_outcome_event(body: bytes) -> None:
    with pytest.raises(RefusedError) as refusal:
        OutcomeEvent.read(body)
    assert refusal.value.code == "message.outcome"


def test_a_refusal_of_an_unreadable_job_is_addressed_to_unknown() -> None:
    message = refusal_event(None, "job.json", ["the message body is not JSON"], NOW)
    assert message.routing_key == "outcome.unknown.refused.unknown"
    event = OutcomeEvent.read(message.body)
    assert (event.event, event.job_id, event.lodgment, event.state) == ("refused", None, None, None)
    assert event.reason is not None
    assert (event.reason.code, event.reason.who) == ("job.json", Party.PRODUCER)


def test_a_refusal_of_a_readable_job_is_addressed_to_its_employer() -> None:
    job = LodgmentJob.model_validate(
        {
            "job_id": "job-1",
            "channel": "asic_bn",
            "service": "s",
            "action": "a",
            "sender": {"id": "1", "type": "REGA"},
            "employer": {"abn": "51824753556"},
            "payload": {"inline": "<synthetic/>"},
        }
    )
    message = refusal_event("job-1", "job.conflict", ["job_id: known with another content"], NOW, job)
    assert message.routing_key == "outcome.asic_bn.refused.51824753556"


def test_a_refusal_published_again_has_the_same_message_id_and_another_has_not() -> None:
    first = refusal_event("job-1", "job.invalid", ["a", "b"], NOW)
    assert refusal_event("job-1", "job.invalid", ["a", "b"], NOW.replace(hour=5)).message_id == first.message_id
    assert refusal_event("job-1", "job.invalid", ["a"], NOW).message_id != first.message_id


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("asic_bn", "accepted", "51824753556"), "outcome.asic_bn.accepted.51824753556"),
        (("sbr2.stp", "accepted", ""), "outcome.sbr2_stp.accepted.unknown"),
        (("a#*", "held", "x.y"), "outcome.a__.held.x_y"),
    ],
)
def test_a_routing_key_always_has_four_words(words: tuple[str, str, str], key: str) -> None:
    assert outcome_key(*words) == key


def test_every_queue_keeps_what_is_dead_lettered_and_none_drops_after_twenty() -> None:
    topology = Topology("ns", delivery_limit=9, max_length=50)
    steps = {"authorise", "seal", "submit", "record"}
    assert set(topology.queues()) == {"receive", *steps, *(f"{step}-later" for step in steps), QUARANTINE}
    for name in topology.queues():
        arguments = topology.queue_arguments(name)
        assert arguments["x-dead-letter-exchange"] == "ns.dead"
        assert (arguments["x-dead-letter-strategy"], arguments["x-overflow"]) == ("at-least-once", "reject-publish")
        assert arguments["x-max-length"] == 50
        assert arguments["x-delivery-limit"] == 9 or name == QUARANTINE


def test_the_examples_in_the_contract_document_are_what_they_claim_to_be() -> None:
    document = Path(__file__).parents[2] / "docs" / "amqp-contract.md"
    job, event = re.findall(r"^```json\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert read_job(job.encode()).job_id == "payrun-2026-11-23:000042"
    assert OutcomeEvent.read(event.encode()).model_dump(mode="json") == json.loads(event)
