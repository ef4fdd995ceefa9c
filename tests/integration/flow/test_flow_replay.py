"""Replays through the whole pipeline, judged by the agency's own book."""

import asyncio
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pipeline.ledger import replay_plan, replay_reports, replays
from pipeline.lodgment.references import uuid7
from pipeline.lodgment.replay import Mode
from pipeline.lodgment.replay_run import ItemState, Replay, ReplayState, approved, paused, resumed, started
from pipeline.lodgment.selection import read_conditions
from pipeline.lodgment.states import State
from pipeline.sandbox.trouble import Trouble
from tests.doubles.jobs import document, job
from tests.integration.flow.conftest import PATIENCE

if TYPE_CHECKING:
    from tests.integration.flow.conftest import Pipeline

embedded = pytest.mark.parametrize("pipeline", ["embedded"], indirect=True)
RATE = 500


async def plan(pipeline: "Pipeline", where: str, mode: Mode = Mode.SAFEST) -> Replay:
    context = pipeline.parts.context
    now = context.clock()
    one = Replay(uuid7(now, os.urandom(10)), now, "ana@desk", "mended", where, mode, rate=RATE)
    async with context.ledger.transaction() as tx:
        await replays.add(tx, one)
        await replay_plan.freeze(tx, one, read_conditions([where]), None, now + context.timing.token_margin)
        groups = await replay_plan.groups(tx, one.id)
        one = replace(one, total=sum(found.count for found in groups if found.state is ItemState.WAITING))
        await replays.change(tx, one)
    return one


async def press(pipeline: "Pipeline", one: Replay, deed: str) -> Replay:
    now = pipeline.parts.context.clock()
    async with pipeline.parts.ledger.transaction() as tx:
        locked = await replays.lock(tx, one.id)
        assert locked is not None
        after = {
            "start": lambda: started(locked, "ana@desk", now, None, None),
            "pause": lambda: paused(locked),
            "resume": lambda: resumed(locked, now, None, None),
            "approve": lambda: approved(locked, "ben@desk", now),
        }[deed]()
        await replays.change(tx, after)
    return after


async def until(pipeline: "Pipeline", one: Replay, *states: ReplayState, ended: int = 0) -> Replay:
    deadline = asyncio.get_running_loop().time() + PATIENCE
    found = None
    while asyncio.get_running_loop().time() < deadline:
        async with pipeline.parts.ledger.transaction(read_only=True) as tx:
            found = await replays.load(tx, one.id)
        if found is not None and found.state in states and found.ended >= ended:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"not {states} but {found}")


async def test_a_batch_that_an_outage_parked_and_one_that_a_mistake_held_are_lodged_once_each(
    pipeline: "Pipeline",
) -> None:
    jobs = [f"job-{number}" for number in range(15)]
    async with pipeline.running():
        pipeline.sandbox.script(Trouble(service="asic", outage=True))
        await pipeline.push(*(job(name) for name in jobs[:7]))
        for name in jobs[:7]:
            await pipeline.until(name, State.PARKED, holds=lambda row: row.attempts == 1)
        pipeline.sandbox.script(Trouble(service="asic"))
        await pipeline.push(*(job(name, "invalid") for name in jobs[7:]))
        for name in jobs[7:]:
            await pipeline.until(name, State.HELD)
        one = await plan(pipeline, "state=held,parked and code=asic:FAULT.*")
        assert one.total == 15
        await press(pipeline, one, "start")
        done = await until(pipeline, one, ReplayState.DONE)
        # On a slow machine some that were parked go on by themselves before their turn comes.
        assert (done.ended, done.failed) == (done.started, 0)
        assert (done.started + done.skipped, done.skipped <= 7) == (15, True)
        rows = [await pipeline.until(name, State.ACCEPTED) for name in jobs]
        book = await pipeline.book()
        assert {row.reference for row in rows} == set(book)
        assert {line["processed"] for line in book.values()} == {1}
        async with pipeline.parts.ledger.transaction(read_only=True) as tx:
            items = await replay_reports.list_(tx, one.id, None, 100)
        went = [item for item in items if item.stage is not None]
        assert {item.end_state for item in went} == {State.ACCEPTED}
        assert (
            sorted(item.stage for item in went if item.stage is not None) == ([0] + [1] * 10 + [2] * 4)[: done.started]
        )


@embedded
async def test_a_replay_of_what_was_not_mended_halts_after_one_request(pipeline: "Pipeline") -> None:
    jobs = [f"job-{number}" for number in range(5)]
    still_bad = document("invalid", times=2)
    async with pipeline.running():
        await pipeline.push(*(job(name, payload={"inline": still_bad}) for name in jobs))
        for name in jobs:
            await pipeline.until(name, State.HELD)
        one = await plan(pipeline, "code=asic:FAULT.INVALIDXML")
        await press(pipeline, one, "start")
        halted = await until(pipeline, one, ReplayState.HALTED)
        assert (halted.started, halted.failed, halted.halt_code) == (1, 1, "asic:FAULT.INVALIDXML")
        assert sorted(line["seen"] for line in (await pipeline.book()).values()) == [1, 1, 1, 1, 2]


@embedded
async def test_a_replay_outlives_a_pause_and_the_process(pipeline: "Pipeline") -> None:
    jobs = [f"job-{number}" for number in range(13)]
    async with pipeline.running():
        await pipeline.push(*(job(name, "invalid") for name in jobs))
        for name in jobs:
            await pipeline.until(name, State.HELD)
        pipeline.sandbox.script(Trouble(service="asic", latency=0.3))
        one = await plan(pipeline, "state=held")
        await press(pipeline, one, "start")
        await until(pipeline, one, ReplayState.RUNNING, ended=1)
        resting = await press(pipeline, one, "pause")
        assert resting.left
        await until(pipeline, one, ReplayState.PAUSED, ended=resting.started)
        assert (await until(pipeline, one, ReplayState.PAUSED)).started == resting.started
        await press(pipeline, one, "resume")
    pipeline.sandbox.script(Trouble(service="asic"))
    async with pipeline.running():
        await until(pipeline, one, ReplayState.DONE)
        rows = [await pipeline.until(name, State.ACCEPTED) for name in jobs]
        book = await pipeline.book()
        assert {row.reference for row in rows} == set(book)
        assert {line["processed"] for line in book.values()} == {1}


@embedded
async def test_a_rejected_document_is_lodged_under_a_new_reference_after_a_second_person_said_so(
    pipeline: "Pipeline",
) -> None:
    async with pipeline.running():
        await pipeline.push(job("one", "reject"), job("two"))
        old = await pipeline.until("one", State.REJECTED)
        await pipeline.until("two", State.ACCEPTED)
        one = await plan(pipeline, "state=rejected,accepted", Mode.NEW_REFERENCE)
        assert one.total == 1
        await press(pipeline, one, "approve")
        await press(pipeline, one, "start")
        await until(pipeline, one, ReplayState.DONE)
        new = await pipeline.until("one+2", State.REJECTED, State.ACCEPTED)
        assert new.reference != old.reference
        assert await pipeline.until("one", State.REJECTED) == old
        book = await pipeline.book()
        assert {book[row.reference]["seen"] for row in (old, new)} == {1}
        assert len(book) == 3
