"""A lane of two hundred, one at a time and in order, in real processes that are killed; nobody else waits."""

import random
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from pipeline.broker.producer import Producer
from tests.acceptance.havoc import Batch, Crew, check_calm, check_queues_empty
from tests.doubles.jobs import job
from tests.services.pipeline_processes import until

_SIZE, _OTHERS = 200, 40
_BLOWS = ("transport", "outcome", "scheduler", "signer", "transport")


@pytest.mark.timeout(900)
def test_a_lane_goes_out_one_at_a_time_in_order_while_workers_are_killed(
    open_crew: Callable[[float], Crew], chance: random.Random
) -> None:
    crew = open_crew(4)
    crew.site.start_worker("transport")
    crew.site.start_worker("outcome")
    lane = {f"lane-{number:04}": job(f"lane-{number:04}", order_key="synthetic lane") for number in range(_SIZE)}
    others = {f"other-{number:04}": job(f"other-{number:04}") for number in range(_OTHERS)}
    batch = Batch({**lane, **others}, dict.fromkeys([*lane, *others], "accepted"))
    with Producer([crew.servers.broker_url], crew.servers.namespace) as producer:
        producer.push_many(batch.jobs.values())
    until("all are taken in", lambda: len(crew.site.states()) == len(batch.jobs), 120)
    for number, blow in enumerate(_BLOWS, start=1):
        goal = _SIZE * number // (len(_BLOWS) + 1)
        until(f"{goal} of the lane are final", lambda goal=goal: _final(crew) >= goal, 240)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.2))
        crew.strike(blow)
    check_calm(crew.site, batch, 300)
    check_queues_empty(crew)
    sent = crew.site.query(
        "SELECT job_id, sent_at, finished_at FROM lodgment_outcome WHERE job_id LIKE 'lane-%' ORDER BY sent_at"
    )
    assert [job_id for job_id, _, _ in sent] == sorted(lane)
    assert [job_id for (job_id, _, ended), (_, began, _) in pairwise(sent) if began < ended] == []
    [(last_other,)] = crew.site.query("SELECT max(finished_at) FROM lodgment_outcome WHERE job_id LIKE 'other-%'")
    assert last_other < sent[_SIZE // 2][2]


def _final(crew: Crew) -> int:
    [(number,)] = crew.site.query(
        "SELECT count(*) FROM lodgment_outcome WHERE state = 'accepted' AND job_id LIKE 'lane-%'"
    )
    return int(number)
