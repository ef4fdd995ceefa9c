"""The example pay run."""

import json
import random
from datetime import UTC, datetime

import pytest
from stdnum.au import abn as abn_rules

from pipeline.lodgment.job import JobRefusedError, read_job
from pipeline.lodgment.states import State
from pipeline.sandbox.example import ExampleJob
from pipeline.sandbox.pay_run import Employer, employers, pay_event
from pipeline.sandbox.pay_run_example import pay_run_batch
from pipeline.sandbox.sbr2_document import read_pay_event
from pipeline.sandbox.sbr2_scenarios import Sbr2Scenario, Sbr2Script, read_script
from tests.doubles.documents import AtHand
from tests.doubles.sbr2 import make_channel

NOW = datetime(2026, 11, 23, 3, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def batch() -> list[ExampleJob]:
    return pay_run_batch(NOW)


def test_is_the_same_each_time(batch: list[ExampleJob]) -> None:
    assert pay_run_batch(NOW) == batch
    assert pay_run_batch(NOW, seed=2) != batch


def test_two_hundred_employers_pay_five_thousand_and_meet_every_scenario(batch: list[ExampleJob]) -> None:
    jobs = [json.loads(one.job) for one in batch[:200]]
    assert len({job["employer"]["abn"] for job in jobs}) == 200
    assert sum(job["payload"]["inline"].count('DocumentType="CHILD"') for job in jobs) == 5_000
    assert {job["labels"]["scenario"] for job in jobs} == set(Sbr2Scenario)
    smallest = pay_run_batch(NOW, count=40, payees=100)
    assert {json.loads(one.job)["labels"]["scenario"] for one in smallest} == set(Sbr2Scenario)


def test_every_document_but_one_passes_the_channels_checks_and_the_agencys(batch: list[ExampleJob]) -> None:
    channel = make_channel()
    for one in batch:
        job = read_job(one.job)
        document = job.payload.inline_bytes()
        judged = read_pay_event([document])
        if one.expected.state is None:
            with pytest.raises(JobRefusedError) as refusal:
                channel.prepare(job, AtHand(document), NOW)
            assert refusal.value.code == one.expected.code
            assert [fault.code for fault in judged.faults] == ["CMN.ATO.PAYEVNT.000191"]
        else:
            assert channel.prepare(job, AtHand(document), NOW).payees
            assert judged.faults == ()
            assert judged.script.scenario == json.loads(one.job)["labels"]["scenario"]


def test_numbers_have_their_check_digits_and_no_payee_has_a_tax_file_number(batch: list[ExampleJob]) -> None:
    for one in batch:
        job = json.loads(one.job)
        assert abn_rules.is_valid(job["employer"]["abn"])
        assert "software_id" not in job
        document = job["payload"]["inline"]
        found = document.count("<tns:TaxFileNumberId>111111111<")
        assert found == document.count("TaxFileNumberId>") // 2 == document.count('DocumentType="CHILD"')


def test_one_event_is_lodged_twice_and_one_corrected_each_in_the_lane_of_its_first(batch: list[ExampleJob]) -> None:
    channel = make_channel()
    lanes: dict[str, list[ExampleJob]] = {}
    for one in batch:
        if one.expected.state is not None:
            job = read_job(one.job)
            lane = channel.prepare(job, AtHand(job.payload.inline_bytes()), NOW).order_key
            lanes.setdefault(lane or "", []).append(one)
    shared = [lane for lane in lanes.values() if len(lane) > 1]
    assert len(shared) == 2
    assert sorted(second.expected.processed for _, second in shared) == [0, 1]
    assert not [one for lane in shared for one in lane if one.expected.state is State.HELD]


def test_shares_no_lane_with_another_run(batch: list[ExampleJob]) -> None:
    channel = make_channel()

    def lanes(jobs: list[ExampleJob]) -> set[str | None]:
        taken = [read_job(one.job) for one in jobs if one.expected.state is not None]
        return {channel.prepare(job, AtHand(job.payload.inline_bytes()), NOW).order_key for job in taken}

    assert lanes(batch).isdisjoint(lanes(pay_run_batch(NOW, name="another")))


def test_says_when_so_many_payees_do_not_fit() -> None:
    chance = random.Random(1)  # noqa: S311  - repeatable examples, not secrets
    for count, payees in ((10, 9), (10, 651)):
        with pytest.raises(ValueError, match="payees: 10 employers have from 10 to 650 payees"):
            employers(count, payees, chance)
    assert sum(one.payees for one in employers(10, 650, chance)) == 650


@pytest.mark.parametrize("scenario", Sbr2Scenario)
def test_a_script_is_read_from_the_payers_name_as_it_was_written(scenario: Sbr2Scenario) -> None:
    script = Sbr2Script(scenario, times=-1, seconds=0.5)
    assert read_script(str(script)) == script
    assert read_pay_event([pay_event(Employer(1, 2), "SYN", NOW, script).encode()]).script == script


@pytest.mark.parametrize(
    "name",
    [
        "SANDBOX:",
        "SANDBOX:nothing",
        "SANDBOX:accept;often=1",
        "SANDBOX:accept;times=x",
        "SANDBOX:delayed;seconds=nan",
        "SANDBOX:delayed;seconds=1e30",
    ],
)
def test_what_begins_like_a_script_and_is_none_is_not_taken_for_a_name(name: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_script(name)
