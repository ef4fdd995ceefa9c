"""receive: how much of a batch is held at a time, and what a batch that comes again leads to."""

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from pipeline.broker.port import Delivery
from pipeline.gateway.documents import DocumentStore
from pipeline.ledger import lodgments
from pipeline.lodgment.errors import DependencyDownError
from pipeline.lodgment.lodgment import Reason
from pipeline.lodgment.states import State, Step
from pipeline.stages.receive import Receive
from tests.doubles.jobs import document, job
from tests.integration.stages.conftest import drive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ledger.session import Tx
    from pipeline.stages.receive import _Refused, _Taken
    from tests.integration.stages.conftest import Bench


def receive(bench: "Bench", at_once: int) -> Receive:
    return Receive(bench.context(), DocumentStore((), 50_000_000), "", at_once=at_once)


def pushed(*jobs: bytes) -> list[Delivery]:
    return [Delivery(body, str(number), {}, redelivered=False, token=object()) for number, body in enumerate(jobs)]


async def test_a_batch_of_large_documents_is_stored_in_portions(bench: "Bench") -> None:
    batch = pushed(*(job(f"job-{n}") for n in range(5)))
    settled = [one async for one in receive(bench, len(document()) + 1).handle(batch)]
    assert [len(one.deliveries) for one in settled] == [2, 2, 1]
    async with bench.ledger.transaction(read_only=True) as tx:
        assert len(await lodgments.known_jobs(tx, [f"job-{n}" for n in range(5)])) == 5


async def test_a_conflict_is_seen_within_and_across_portions(bench: "Bench") -> None:
    other = job("one", payload={"inline": document(name="Another Bakery")})
    for at_once in (1, 1_000_000):
        told = await drive(receive(bench, at_once), pushed(job("one"), other, job("one")))
        assert [json.loads(message.body).get("event") for message in told].count("refused") == 1


async def test_a_commit_whose_answer_was_lost_takes_the_job_in_once(bench: "Bench") -> None:
    bench.ledger.doubts = 1
    stage, batch = receive(bench, 1_000_000), pushed(job("one"))
    with pytest.raises(DependencyDownError):
        await drive(stage, batch)
    [onward] = await drive(stage, batch)
    assert onward.routing_key == Step.AUTHORISE
    async with bench.ledger.transaction(read_only=True) as tx:
        known = await lodgments.known_jobs(tx, ["one"])
    assert json.loads(onward.body)["lodgment"] == str(known["one"].id)


async def test_the_answer_to_a_job_pushed_again_is_never_the_later_word(bench: "Bench") -> None:
    """Subscribers believe the event with the later time: the lodgment may move on while the job is answered."""
    await drive(receive(bench, 1_000_000), pushed(job("one")))
    async with bench.ledger.transaction(read_only=True) as tx:
        row = (await lodgments.known_jobs(tx, ["one"]))["one"]
    await bench.moved(row, row.moved(State.HELD, reason=Reason("asic:FAULT.INVALIDXML", "Mend it.")))
    asked_at = bench.now

    class Overtaken(Receive):
        async def _judged(self, tx: "Tx", fresh: "Sequence[_Taken]") -> "tuple[list[_Taken], list[_Refused]]":
            bench.now += timedelta(seconds=1)  # the original was read before
            return await super()._judged(tx, fresh)

    [told] = await drive(Overtaken(bench.context(), DocumentStore((), 50_000_000), ""), pushed(job("one")))
    event = json.loads(told.body)
    assert (event["state"], datetime.fromisoformat(event["at"])) == ("held", asked_at)
