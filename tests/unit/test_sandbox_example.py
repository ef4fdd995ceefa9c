"""The example batch."""

import json
from collections import Counter
from datetime import UTC, datetime

import pytest
from stdnum.au import abn as abn_rules

from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.channels.asic_profile import AsicProfile, BasicCredentials
from pipeline.lodgment.job import JobRefusedError, read_job
from pipeline.lodgment.states import State
from pipeline.sandbox.example import ExampleJob, example_batch
from pipeline.sandbox.scenarios import Scenario
from tests.doubles.documents import AtHand

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.fixture(scope="module")
def batch() -> list[ExampleJob]:
    return example_batch(NOW)


def test_is_the_same_each_time(batch: list[ExampleJob]) -> None:
    assert example_batch(NOW) == batch
    assert example_batch(NOW, seed=2) != batch


def test_meets_every_scenario(batch: list[ExampleJob]) -> None:
    met = {json.loads(job.job)["labels"]["scenario"] for job in batch}
    assert met == set(Scenario)


def test_every_job_that_should_be_taken_can_be_and_no_other(batch: list[ExampleJob]) -> None:
    channel = AsicBusinessNames(AsicProfile("sandbox", "https://localhost", BasicCredentials("synthetic", "synthetic")))

    def refusal(example: ExampleJob) -> str | None:
        try:
            job = read_job(example.job)
            channel.prepare(job, AtHand(job.payload.inline_bytes()), NOW)
        except JobRefusedError as error:
            return error.code
        return None

    refused = {example.job_id: refusal(example) for example in batch if refusal(example) is not None}
    expected = {one.job_id: one.expected.code for one in batch if one.expected.state is None}
    assert refused == {job_id: code for job_id, code in expected.items() if code != "job.conflict"}


def test_holds_a_repeated_job_and_a_changed_one(batch: list[ExampleJob]) -> None:
    bodies = Counter((example.job_id, example.job) for example in batch)
    ids = Counter(job_id for job_id, _ in bodies)
    assert max(bodies.values()) == 2
    (changed,) = [job_id for job_id, count in ids.items() if count == 2]
    assert Counter(one.expected.state for one in batch if one.job_id == changed) == {State.ACCEPTED: 1, None: 1}


def test_nothing_that_is_held_stands_in_a_lane(batch: list[ExampleJob]) -> None:
    held = [json.loads(one.job) for one in batch if one.expected.state is State.HELD]
    assert held
    assert not [job for job in held if "order_key" in job]
    assert [one for one in batch if b"order_key" in one.job]
    assert [one for one in batch if b"not_before" in one.job]


def test_documents_are_all_different_and_their_abns_hold(batch: list[ExampleJob]) -> None:
    accepted = {one.job_id: json.loads(one.job) for one in batch if one.expected.state is State.ACCEPTED}
    assert len({job["payload"]["inline"] for job in accepted.values()}) == len(accepted)
    assert all(abn_rules.is_valid(job["employer"]["abn"]) for job in accepted.values())


def test_may_be_smaller_and_still_meets_everything() -> None:
    smaller = example_batch(NOW, size=40)
    assert 40 <= len(smaller) <= 50
    assert {json.loads(job.job)["labels"]["scenario"] for job in smaller} == set(Scenario)
