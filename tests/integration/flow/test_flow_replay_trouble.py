"""Replays beside other trouble: a closed door, a lost broker, a restored ledger; judged by the agency's own book."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from pipeline.broker.port import Exchange, Outgoing
from pipeline.ledger import channel_states
from pipeline.lodgment.breaker import Breaker, BreakerScope, BreakerState
from pipeline.lodgment.lodgment import BREAKER_OPEN
from pipeline.lodgment.replay_run import Replay, ReplayState
from pipeline.lodgment.states import State, Step
from pipeline.sandbox.trouble import Trouble
from tests.conftest import delete_topology
from tests.doubles.jobs import job
from tests.integration.flow.conftest import PATIENCE, Pipeline
from tests.integration.flow.test_flow_recover import Lodge, lodge
from tests.integration.flow.test_flow_replay import plan, press, until
from tests.services.postgres import Backup

if TYPE_CHECKING:
    from pipeline.broker.topology import Topology

__all__ = ["lodge"]
embedded = pytest.mark.parametrize("pipeline", ["embedded"], indirect=True)
server = pytest.mark.parametrize("pipeline", ["server"], indirect=True)
DOOR = "asic_bn/business-names"
JOBS = [f"job-{number:02}" for number in range(20)]
OUTAGE = Trouble(service="asic", outage=True)
WELL = Trouble(service="asic")


async def held(pipeline: Pipeline, jobs: Sequence[str] = JOBS) -> None:
    """Lodgments that the agency refused once and will take the next time."""
    await pipeline.push(*(job(name, "invalid") for name in jobs))
    for name in jobs:
        await pipeline.until(name, State.HELD)


async def all_once(pipeline: Pipeline, jobs: Sequence[str] = JOBS) -> None:
    """Every one is accepted, and the agency processed each reference once and knows no other."""
    rows = [await pipeline.until(name, State.ACCEPTED) for name in jobs]
    book = await pipeline.book()
    assert {row.reference for row in rows} == set(book)
    assert Counter(line["processed"] for line in book.values()) == {1: len(jobs)}


async def until_shut(pipeline: Pipeline) -> None:
    """Return when the agency's door is closed."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with pipeline.parts.ledger.transaction(read_only=True) as tx:
                door = (await channel_states.every(tx, BreakerScope.CHANNEL)).get(DOOR, Breaker())
            if door.state in {BreakerState.OPEN, BreakerState.PROBING}:
                return
            await asyncio.sleep(0.02)


async def looked_again(pipeline: Pipeline, one: Replay, times: int) -> Replay:
    """The replay, when the scheduler has looked at live work so many times more."""
    found = await until(pipeline, one, ReplayState.RUNNING)
    for _ in range(times):
        before = found.pace
        while found.pace == before or (found.pace and before and found.pace.looked_at == before.looked_at):
            found = await until(pipeline, one, ReplayState.RUNNING)
    return found


@embedded
async def test_at_every_step_what_is_replayed_goes_through_the_queue_that_gives_way(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pipeline.running():
        await held(pipeline, JOBS[:3])
        broker, told = pipeline.parts.broker, list[Outgoing]()
        publish = broker.publish

        async def noted(messages: Sequence[Outgoing]) -> None:
            told.extend(message for message in messages if message.exchange is Exchange.STEPS)
            await publish(messages)

        monkeypatch.setattr(broker, "publish", noted)
        one = await plan(pipeline, "state=held")
        await press(pipeline, one, "start")
        await pipeline.push(job("live"))
        await until(pipeline, one, ReplayState.DONE)
        live = await pipeline.until("live", State.ACCEPTED)
        await all_once(pipeline, [*JOBS[:3], "live"])
    ways: dict[bool, set[str]] = {True: set(), False: set()}
    for message in told:
        ways[UUID(json.loads(message.body)["lodgment"]) == live.id].add(message.routing_key)
    assert ways[True] == {Step.AUTHORISE, Step.SEAL, Step.SUBMIT, Step.RECORD}
    # With its stored bytes it begins before the agency, signed again it goes all the way.
    assert {"submit-later", "record-later"} <= ways[False] <= {f"{step}-later" for step in ways[True]}


async def test_before_a_closed_door_a_replay_waits_is_charged_nothing_and_goes_on_by_itself(
    pipeline: Pipeline,
) -> None:
    async with pipeline.running():
        await held(pipeline)
        pipeline.sandbox.script(OUTAGE)
        live = [f"live-{number:02}" for number in range(12)]
        await pipeline.push(*map(job, live))
        for name in live:
            await pipeline.until(name, State.PARKED)
        await until_shut(pipeline)
        one = await plan(pipeline, "state=held")
        await press(pipeline, one, "start")
        first = await pipeline.until(
            JOBS[0], State.PARKED, holds=lambda row: row.reason is not None and row.reason.code == BREAKER_OPEN
        )
        resting = await looked_again(pipeline, one, 2)
        assert (resting.state, resting.started, resting.ended, resting.failed) == (ReplayState.RUNNING, 1, 0, 0)
        assert first.tally.failures == 0
        turned_away = pipeline.sandbox.turned_away["asic"]
        pipeline.sandbox.script(WELL)
        done = await until(pipeline, one, ReplayState.DONE)
        assert (done.started, done.ended, done.failed) == (len(JOBS), len(JOBS), 0)
        assert pipeline.sandbox.turned_away["asic"] == turned_away
        await all_once(pipeline, [*JOBS, *live])


@server
async def test_when_the_broker_loses_a_replay_in_the_middle_recover_puts_it_back_and_doubles_nothing(
    pipeline: Pipeline, lodge: Lodge, amqp_url: str, topology: "Topology"
) -> None:
    # Nothing may be found by being stuck: what goes on here goes on because of the command.
    pipeline.settings = pipeline.settings.model_copy(update={"stuck_after": timedelta(hours=1)})
    async with pipeline.running():
        await held(pipeline)
        pipeline.sandbox.script(Trouble(service="asic", latency=0.5))
        one = await plan(pipeline, "state=held")
        await press(pipeline, one, "start")
        await until(pipeline, one, ReplayState.RUNNING, ended=1)
    middle = await before_the_end(pipeline, one)
    delete_topology(amqp_url, topology)
    code, out, _ = await lodge("recover")
    assert code == 0
    assert "Put back: " in out
    pipeline.sandbox.script(WELL)
    async with pipeline.running():
        code, _, _ = await lodge("recover")  # while workers run, and again
        assert code == 0
        done = await until(pipeline, one, ReplayState.DONE)
        assert (done.started, done.ended, done.failed) == (len(JOBS), len(JOBS), 0)
        assert done.started > middle.ended
        await all_once(pipeline)
        assert {line["seen"] for line in (await pipeline.book()).values()} == {2}, "refused once, then taken once"


@server
async def test_a_ledger_restored_from_before_the_replay_ended_replays_on_under_the_same_references(
    pipeline: Pipeline, lodge: Lodge, postgresql_url: str
) -> None:
    backup = Backup(postgresql_url)
    async with pipeline.running():
        await held(pipeline)
        pipeline.sandbox.script(Trouble(service="asic", latency=0.5))
        one = await plan(pipeline, "state=held")
        await press(pipeline, one, "start")
        await until(pipeline, one, ReplayState.RUNNING, ended=1)
    middle = await before_the_end(pipeline, one)
    backup.take()
    pipeline.sandbox.script(WELL)
    async with pipeline.running():
        await until(pipeline, one, ReplayState.DONE)
        sent = {name: (await pipeline.until(name, State.ACCEPTED)).reference for name in JOBS}
    backup.restore()
    code, _, _ = await lodge("recover", "--after-restore", "--reason", "disk lost")
    assert code == 0
    async with pipeline.running():
        restored = await until(pipeline, one, ReplayState.RUNNING, ReplayState.DONE, ReplayState.HALTED)
        assert restored.started >= middle.started
        await until(pipeline, one, ReplayState.DONE)
        after = {name: (await pipeline.until(name, State.ACCEPTED)).reference for name in JOBS}
        assert after == sent
        await all_once(pipeline)


async def before_the_end(pipeline: Pipeline, one: Replay) -> Replay:
    """The replay as the workers left it when they were stopped: some have ended, and some not."""
    async with pipeline.running([]):
        found = await until(pipeline, one, ReplayState.RUNNING)
    assert 0 < found.ended < len(JOBS)
    return found
