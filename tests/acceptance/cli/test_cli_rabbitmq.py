"""The command line beside workers on RabbitMQ: jobs are pushed, outcomes are heard, queues are seen."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.broker.topology import Topology
from tests.acceptance.cli.conftest import Lodge
from tests.doubles.jobs import document, job
from tests.services.nursery import Nursling


@pytest.fixture
def producer(lodge: Lodge, amqp_url: str, topology: Topology) -> Lodge:
    """The command with a broker in its settings."""
    lodge.environment |= {"LODGE_BROKER_URLS": amqp_url, "LODGE_NAMESPACE": topology.namespace}
    assert lodge("db", "upgrade").code == 0
    return lodge


@pytest.fixture
def workers(producer: Lodge, tmp_path: Path) -> Iterator[Nursling]:
    """All six workers in one process."""
    log = tmp_path / "run.log"
    environment = {**producer.environment, "LODGE_HOME": str(tmp_path / "var")}
    service = Nursling("lodge run", ["run"], log, lambda: "worker.started" in log.read_text(), environment)
    service.start()
    yield service
    service.stop()


@pytest.mark.usefixtures("workers")
def test_outcomes_are_heard_through_the_broker(producer: Lodge) -> None:
    lines = [
        job("one", payload={"inline": document(name="One")}),
        job("two", payload={"inline": document("reject", name="Two")}),
        job("three", payload={"inline": document("lost-reply", name="Three")}),
    ]
    left = producer("submit", "-", "--wait", "--timeout", "60", stdin=b"\n".join(lines))
    assert left.code == 1, left.err
    states = {one["state"]: one["count"] for one in producer("status", "--json").json()["states"]}
    assert states == {"accepted": 2, "rejected": 1}
    assert re.search(r"^rejected +1 +S9001", left.out, re.MULTILINE)
    assert re.search(r"^accepted +2", left.out, re.MULTILINE)

    again = producer("submit", "-", "--wait", "--timeout", "60", stdin=lines[0])
    assert again.code == 0, again.err
    other = job("one", payload={"inline": document(name="Another")})
    conflict = producer("submit", "-", "--wait", "--timeout", "60", stdin=other)
    assert conflict.code == 1
    assert "job.conflict" in conflict.out


@pytest.mark.usefixtures("workers")
def test_without_waiting_the_jobs_are_with_the_broker(producer: Lodge) -> None:
    left = producer("submit", "-", stdin=job("one", payload={"inline": document(name="One")}))
    assert left.code == 0, left.err
    assert "1 job(s) are with the broker, confirmed" in left.out
    view = producer("status", "--json").json()
    assert view["broker"] == "reached"
    assert set(view["queues"]) >= {"receive", "authorise", "seal", "submit", "record", "quarantine"}
    assert producer("doctor").code == 0


def test_pushing_where_no_worker_ever_ran_says_so(producer: Lodge) -> None:
    left = producer("submit", "-", stdin=job("one"))
    assert left.code == 1
    assert "[broker.unroutable]" in left.err


def test_a_broker_that_does_not_answer_is_one_line_and_the_ledger_is_still_shown(producer: Lodge) -> None:
    nobody = "amqp://guest:hunter2@127.0.0.1:9/"
    left = producer("submit", "-", stdin=job("one"), LODGE_BROKER_URLS=nobody)
    assert left.code == 1
    assert left.err.startswith("lodge: ")
    assert left.err.count("\n") == 1
    status = producer("status", LODGE_BROKER_URLS=nobody)
    assert status.code == 0
    assert "BROKER: " in status.out
    assert "hunter2" not in left.err + status.out
