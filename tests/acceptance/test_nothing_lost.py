"""Nothing is lost, nothing is lodged twice: real processes on RabbitMQ and PostgreSQL, killed while lodgments flow."""

import random
import signal
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from pipeline.broker.producer import Producer
from tests.acceptance.havoc import (
    Batch,
    Crew,
    check_calm,
    check_queues_empty,
    lodge_through,
    mixed_batch,
)
from tests.doubles.jobs import document, job
from tests.services.pipeline_processes import WORKERS, Site, until

OpenCrew = Callable[[float], Crew]


def slow_batch(size: int, seconds: float, name: str = "slow") -> Batch:
    jobs = {
        f"{name}-{number}": job(f"{name}-{number}", payload={"inline": document("slow", seconds=seconds)})
        for number in range(size)
    }
    return Batch(jobs, dict.fromkeys(jobs, "accepted"))


def push(crew: Crew, batch: Batch) -> None:
    with Producer([crew.servers.broker_url], crew.servers.namespace) as producer:
        producer.push_many(batch.jobs.values())


def attempts(site: Site) -> list[Any]:
    return site.query(
        "SELECT reference, number, started_at, wire_started_at, finished_at, failure_code FROM attempt_history"
        " ORDER BY reference, number"
    )


def under_way(site: Site, size: int) -> bool:
    """The agency has processed them all and has answered none yet."""
    unanswered = site.query("SELECT count(*) FROM attempt_history WHERE finished_at IS NULL")
    return len({line["reference"] for line in site.book()}) == size and unanswered == [(size,)]


@pytest.mark.timeout(420)
def test_each_worker_the_broker_and_the_ledger_are_killed_in_turn(open_crew: OpenCrew, chance: random.Random) -> None:
    crew = open_crew(4)
    batch = mixed_batch(200, chance)
    lodge_through(crew, batch, (*WORKERS, "broker", "ledger"), chance)
    check_calm(crew.site, batch)
    check_queues_empty(crew)


@pytest.mark.timeout(300)
def test_everything_is_killed_at_once_and_started_again(open_crew: OpenCrew, chance: random.Random) -> None:
    crew = open_crew(4)
    batch = mixed_batch(80, chance)
    push(crew, batch)
    until("some are final", lambda: "accepted" in crew.site.states().values())
    crew.kill_everything()
    crew.start_everything()
    check_calm(crew.site, batch)
    check_queues_empty(crew)


def test_on_sigterm_a_transport_worker_finishes_what_is_in_hand(open_crew: OpenCrew) -> None:
    crew = open_crew(30)
    batch = slow_batch(20, seconds=3)
    push(crew, batch)
    until("all are with the agency", lambda: under_way(crew.site, 20))
    assert crew.site.stop(crew.workers["transport"]) == 0
    check_calm(crew.site, batch)
    assert {line["seen"] for line in crew.site.book()} == {1}
    check_queues_empty(crew)


def test_of_two_transport_workers_and_two_schedulers_one_at_a_time_sends_a_reference(
    open_crew: OpenCrew, chance: random.Random
) -> None:
    crew = open_crew(10)
    crew.site.start_worker("transport")
    crew.site.start_worker("scheduler")
    batch = mixed_batch(80, chance)
    push(crew, batch)
    check_calm(crew.site, batch)
    seen = {line["reference"]: line["seen"] for line in crew.site.book()}
    sent = dict.fromkeys(seen, 0)
    ended: dict[str, datetime] = {}
    for reference, _, started_at, wire_started_at, finished_at, _ in attempts(crew.site):
        sent[reference] += wire_started_at is not None
        assert reference not in ended or ended[reference] <= started_at
        ended[reference] = finished_at
    assert seen == sent


def test_a_worker_that_sleeps_through_its_lease_does_no_harm_when_it_wakes(
    open_crew: OpenCrew, chance: random.Random
) -> None:
    crew = open_crew(2)
    sleeper = crew.workers["transport"]
    batch = slow_batch(4, seconds=1)
    push(crew, batch)
    until("all are with the agency", lambda: under_way(crew.site, 4))
    sleeper.tell(signal.SIGSTOP)
    other = crew.site.start_worker("transport")
    check_calm(crew.site, batch)
    assert {(row[1], row[5]) for row in attempts(crew.site)} == {(1, "worker.lost"), (2, None)}
    sleeper.tell(signal.SIGCONT)
    assert crew.site.stop(other) == 0
    more = mixed_batch(20, chance, "more")
    push(crew, more)
    check_calm(crew.site, Batch({**batch.jobs, **more.jobs}, {**batch.ends, **more.ends}))
    check_queues_empty(crew)
