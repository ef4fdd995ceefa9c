"""A whole outage of an agency, from end to end: few requests, no attempt charged, and everything processed once."""

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pipeline.ledger import channel_states
from pipeline.lodgment.breaker import BreakerScope, BreakerState
from pipeline.lodgment.states import State
from pipeline.sandbox.trouble import Trouble
from tests.doubles.jobs import document, job

if TYPE_CHECKING:
    from tests.integration.flow.conftest import Pipeline

DOOR = "asic_bn/business-names"
SIZE = 300


@pytest.mark.parametrize("pipeline", ["embedded"], indirect=True)
@pytest.mark.timeout(300)
async def test_through_an_outage_three_hundred_lodgments_wait_are_let_go_gently_and_are_processed_once(
    pipeline: "Pipeline",
) -> None:
    ids = [f"job-{number:03d}" for number in range(SIZE)]
    pipeline.settings = pipeline.settings.model_copy(update={"in_flight": 40, "batch": 20})
    async with pipeline.running():
        listener = await pipeline.parts.broker.listen("outcome.#")
        pipeline.sandbox.script(Trouble(service="asic", outage=True))
        await pipeline.push(*(job(one, payload={"inline": document(name=f"Synthetic {one}")}) for one in ids))
        rows = [await pipeline.until(one, State.PARKED) for one in ids]
        assert await _breaker(pipeline) in {BreakerState.OPEN, BreakerState.PROBING}
        assert await pipeline.book() == {}
        turned_away = pipeline.sandbox.turned_away
        before, since = turned_away["asic"], asyncio.get_running_loop().time()
        lasted = 0.0
        while turned_away["asic"] < before + 2:
            await asyncio.sleep(0.05)
            lasted = asyncio.get_running_loop().time() - since
        assert turned_away["asic"] <= before + 2 + lasted, "a probe a second at most, and ever more rarely"
        pipeline.sandbox.script(Trouble(service="asic"))
        rows = [await pipeline.until(one, State.ACCEPTED) for one in ids]
        assert {row.tally.failures for row in rows} == {0}
        assert await _breaker(pipeline) in {BreakerState.RAMPING, BreakerState.CLOSED}
        book = await pipeline.book()
        assert {row.reference for row in rows} == set(book)
        assert sum(row.attempts for row in rows) == turned_away["asic"] + sum(line["seen"] for line in book.values())
        assert turned_away["asic"] < 2 * SIZE // 3, "most waited without having been sent"
        assert Counter(line["processed"] for line in book.values()) == {1: SIZE}
        told = [json.loads(one.body) for one in await listener.take(SIZE * 6, 0.5)]
    parked = {one["job_id"] for one in told if one["event"] == "parked" and one["reason"]["code"] == "breaker.open"}
    assert len(parked) >= SIZE // 2


async def _breaker(pipeline: "Pipeline") -> BreakerState:
    async with pipeline.parts.ledger.transaction(read_only=True) as tx:
        return (await channel_states.every(tx, BreakerScope.CHANNEL))[DOOR].state
