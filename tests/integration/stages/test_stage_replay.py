"""replay: goes in stages, sees how each ends, halts, waits, and is harmless when two schedulers do it."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from pipeline.broker.port import later
from pipeline.ledger import (
    live_times,
    lodgments,
    operators,
    payees,
    replay_items,
    replay_plan,
    replay_reports,
    replays,
    watch,
)
from pipeline.lodgment.decisions import Tally
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.replay import Known, Mode
from pipeline.lodgment.replay_pace import Leg, PacePolicy
from pipeline.lodgment.replay_run import (
    ItemState,
    Replay,
    ReplayPolicy,
    ReplayState,
    approved,
    cancelled,
    paused,
    resumed,
    started,
)
from pipeline.lodgment.selection import read_conditions
from pipeline.lodgment.states import State, Step
from pipeline.lodgment.watching import Lateness
from pipeline.stages.replay import ReplayStage
from tests.doubles.lodgments import a_lodgment, fresh_id

if TYPE_CHECKING:
    from pipeline.broker.port import Outgoing
    from tests.integration.stages.conftest import Bench

POLICY = ReplayPolicy(stages=(1, 3), pace=PacePolicy(first=1.0))
CAUSE = Reason("asic:FAULT.INVALIDXML", "synthetic", Party.OPERATOR)
ROOM = 1000
SECOND = timedelta(seconds=1)
on_sqlite = pytest.mark.parametrize("bench", ["sqlite"], indirect=True)
"""What the two databases have no part in."""


async def held(bench: "Bench", number: int, **changes: object) -> list[Lodgment]:
    rows = [
        replace(
            a_lodgment(bench.now),
            state=State.HELD,
            due_at=None,
            reason=CAUSE,
            tally=Tally(2, 1),
            sent_at=bench.now,
            attempts=2,
            **changes,  # type: ignore[arg-type]  # fields by name
        )
        for _ in range(number)
    ]
    await bench.add(*rows)
    return sorted(rows, key=lambda row: row.id)


async def planned(bench: "Bench", mode: Mode = Mode.SAFEST, where: str = "channel=asic_bn") -> Replay:
    one = Replay(fresh_id(bench.now), bench.now, "ana@desk", "mended", where, mode, rate=1000)
    async with bench.ledger.transaction() as tx:
        await replays.add(tx, one)
        await replay_plan.freeze(tx, one, read_conditions([where]), None, bench.now)
        groups = await replay_plan.groups(tx, one.id)
        one = replace(one, total=sum(found.count for found in groups if found.state is ItemState.WAITING))
        await replays.change(tx, one)
    return one


async def changed(bench: "Bench", one: Replay) -> Replay:
    async with bench.ledger.transaction() as tx:
        await replays.lock(tx, one.id)
        await replays.change(tx, one)
    return one


async def running(bench: "Bench", mode: Mode = Mode.SAFEST) -> Replay:
    one = await planned(bench, mode)
    if mode is Mode.NEW_REFERENCE:
        one = approved(one, "ben@desk", bench.now)
    return await changed(bench, started(one, "ana@desk", bench.now, None, None))


async def now_of(bench: "Bench", one: Replay) -> Replay:
    async with bench.ledger.transaction(read_only=True) as tx:
        found = await replays.load(tx, one.id)
    assert found is not None
    return found


def ids(messages: "Sequence[Outgoing]") -> list[UUID]:
    return [UUID(json.loads(message.body)["lodgment"]) for message in messages]


async def ended(bench: "Bench", lodgment_ids: Sequence[UUID], state: State, reason: Reason | None = None) -> None:
    """What the workers and the agency make of those that went out."""
    async with bench.ledger.transaction() as tx:
        rows = (await lodgments.load(tx, lodgment_ids)).values()
        moves = [(row, row.moved(state, reason=reason)) for row in rows]
        assert await lodgments.move(tx, moves) == set(lodgment_ids)


@on_sqlite
async def test_one_goes_first_then_three_then_the_rest_and_each_stage_waits_for_the_one_before(bench: "Bench") -> None:
    rows = await held(bench, 9)
    one = await running(bench)
    stage = ReplayStage(bench.context(), POLICY)
    went = []
    with capture_logs() as logs:
        for size in (1, 3, 5):
            bench.now += timedelta(seconds=1)
            out = ids(await stage.advance(ROOM))
            assert len(out) == size
            bench.now += timedelta(seconds=1)
            assert await stage.advance(ROOM) == []
            await ended(bench, out, State.ACCEPTED)
            went += out
        bench.now += timedelta(seconds=1)
        assert await stage.advance(ROOM) == []
    assert went == [row.id for row in rows]
    done = await now_of(bench, one)
    assert (done.state, done.started, done.ended, done.failed) == (ReplayState.DONE, 9, 9, 0)
    events = [entry["event"] for entry in logs]
    assert events.count("replay.stage_completed") == 2
    assert events[-1] == "replay.completed"


@on_sqlite
async def test_what_goes_out_has_its_reference_fresh_clocks_and_a_note_of_who_and_why(bench: "Bench") -> None:
    [row] = await held(bench, 1)
    async with bench.ledger.transaction() as tx:
        await watch.looked(tx, [(row.id, bench.now, Lateness.OUTCOME)])
    bench.now += timedelta(days=5)
    one = await running(bench)
    [message] = await ReplayStage(bench.context(), POLICY).advance(ROOM)
    assert message.routing_key == later(Step.AUTHORISE)
    after = await bench.lodgment(row)
    assert (after.reference, after.state, after.tally) == (row.reference, State.RECEIVED, Tally())
    assert (after.replayed_at, after.watch_at, after.attempts, after.sent_at) == (bench.now, None, 2, row.sent_at)
    assert after.clock_from == bench.now
    assert after.reason == Reason("operator.replayed", "Replayed by ana@desk: mended")
    async with bench.ledger.transaction(read_only=True) as tx:
        [note] = await operators.of(tx, row.id)
        assert await watch.late(tx) == []
    assert (note.who, note.action, note.reason) == ("ana@desk", "replay", f"replay {one.id}: mended")


@on_sqlite
async def test_stored_bytes_are_sent_again_as_they_are(bench: "Bench") -> None:
    row = await bench.sealed()
    claimed, _ = await bench.sent(row, None)
    await bench.moved(claimed, claimed.moved(State.HELD, reason=CAUSE))
    await running(bench)
    [message] = await ReplayStage(bench.context(), POLICY).advance(ROOM)
    assert message.routing_key == later(Step.SUBMIT)
    after = await bench.lodgment(row)
    assert (after.state, after.envelope_id) == (State.SEALED, row.envelope_id)


async def test_the_same_failure_halts_it_and_nothing_more_goes_out_until_somebody_resumes(bench: "Bench") -> None:
    await held(bench, 9)
    one = await running(bench)
    stage = ReplayStage(bench.context(), POLICY)
    out = ids(await stage.advance(ROOM))
    await ended(bench, out, State.HELD, CAUSE)
    with capture_logs() as logs:
        for _ in range(3):
            bench.now += timedelta(seconds=5)
            assert await stage.advance(ROOM) == []
    halted = await now_of(bench, one)
    assert (halted.state, halted.halt_code, halted.failed) == (ReplayState.HALTED, CAUSE.code, 1)
    [told] = [entry for entry in logs if entry["event"] == "replay.halted"]
    assert (told["code"], told["log_level"]) == (CAUSE.code, "warning")
    async with bench.ledger.transaction(read_only=True) as tx:
        [result] = await replay_reports.results(tx, one.id)
    assert (result.state, result.code, result.again, result.count) == (State.HELD, CAUSE.code, True, 1)
    bench.now += timedelta(seconds=5)
    await changed(bench, resumed(halted, bench.now, None, None))
    assert len(await stage.advance(ROOM)) == 3
    assert (await now_of(bench, one)).state is ReplayState.RUNNING


@on_sqlite
async def test_paused_it_starts_nothing_and_still_sees_how_those_on_their_way_end(bench: "Bench") -> None:
    await held(bench, 9)
    one = await running(bench)
    stage = ReplayStage(bench.context(), POLICY)
    out = ids(await stage.advance(ROOM))
    await changed(bench, paused(await now_of(bench, one)))
    await ended(bench, out, State.ACCEPTED)
    bench.now += timedelta(seconds=5)
    assert await stage.advance(ROOM) == []
    resting = await now_of(bench, one)
    assert (resting.state, resting.ended, resting.left) == (ReplayState.PAUSED, 1, 8)
    await changed(bench, resumed(resting, bench.now, None, None))
    assert len(await stage.advance(ROOM)) == 3


@on_sqlite
async def test_cancelled_it_frees_the_rest_and_still_sees_how_those_on_their_way_end(bench: "Bench") -> None:
    await held(bench, 9)
    one = await running(bench)
    stage = ReplayStage(bench.context(), POLICY)
    out = ids(await stage.advance(ROOM))
    await changed(bench, cancelled(await now_of(bench, one), bench.now))
    await ended(bench, out, State.ACCEPTED)
    assert await stage.advance(ROOM) == []
    assert (await now_of(bench, one)).ended == 1


async def test_two_schedulers_send_nothing_twice_and_leave_nothing_out(bench: "Bench") -> None:
    rows = await held(bench, 12)
    one = await running(bench)
    stages = [ReplayStage(bench.context(f"worker-{n}"), POLICY) for n in range(3)]
    went: list[UUID] = []
    for _ in range(30):
        bench.now += timedelta(seconds=1)
        told = await asyncio.gather(*(stage.advance(2) for stage in stages))
        out = [lodgment_id for messages in told for lodgment_id in ids(messages)]
        await ended(bench, out, State.ACCEPTED)
        went += out
        if (await now_of(bench, one)).state is ReplayState.DONE:
            break
    assert sorted(went) == [row.id for row in rows]
    assert (await now_of(bench, one)).state is ReplayState.DONE
    for row in rows:
        async with bench.ledger.transaction(read_only=True) as tx:
            assert len(await operators.of(tx, row.id)) == 1


@on_sqlite
async def test_a_scheduler_that_dies_before_it_publishes_costs_time_only(bench: "Bench") -> None:
    """Its messages are lost; the row is due again, and the replay goes on counting it."""
    from pipeline.stages.reschedule import Reschedule

    [row] = await held(bench, 1)
    one = await running(bench)
    assert ids(await ReplayStage(bench.context("gone"), POLICY).advance(ROOM)) == [row.id]
    bench.now += bench.timing.stuck_after
    [again] = await Reschedule(bench.context(), 10).sweep()
    assert ids([again]) == [row.id]
    await ended(bench, [row.id], State.ACCEPTED)
    await ReplayStage(bench.context(), POLICY).advance(ROOM)
    await ReplayStage(bench.context(), POLICY).advance(ROOM)
    assert (await now_of(bench, one)).state is ReplayState.DONE


@on_sqlite
async def test_what_went_on_by_itself_since_the_list_was_frozen_is_left_alone(bench: "Bench") -> None:
    first, second = await held(bench, 2)
    one = await running(bench)
    await ended(bench, [first.id], State.ACCEPTED)
    stage = ReplayStage(bench.context(), POLICY)
    bench.now += timedelta(seconds=1)
    assert await stage.advance(ROOM) == []
    bench.now += timedelta(seconds=1)
    assert ids(await stage.advance(ROOM)) == [second.id]
    assert (await bench.lodgment(first)).state is State.ACCEPTED
    after = await now_of(bench, one)
    assert (after.started, after.skipped) == (1, 1)
    async with bench.ledger.transaction(read_only=True) as tx:
        items = await replay_reports.list_(tx, one.id, ItemState.SKIPPED, 10)
    assert [(item.lodgment_id, item.known) for item in items] == [(first.id, Known.LODGED)]


@on_sqlite
async def test_without_room_in_the_queues_a_replay_waits(bench: "Bench") -> None:
    await held(bench, 9)
    await running(bench)
    stage = ReplayStage(bench.context(), POLICY)
    bench.now += timedelta(seconds=0.5)
    assert await stage.advance(0) == []
    bench.now += timedelta(seconds=0.6)
    assert len(await stage.advance(0)) == 1


@on_sqlite
async def test_while_its_own_are_not_sent_a_replay_adds_no_more(bench: "Bench") -> None:
    await held(bench, 30)
    one = await running(bench)
    await changed(bench, replace(one, rate=20, stage=2, paced_at=bench.now))
    stage = ReplayStage(bench.context(), POLICY)
    bench.now += timedelta(seconds=1)
    out = ids(await stage.advance(ROOM))
    assert len(out) == 5
    bench.now += timedelta(seconds=0.1)
    assert await stage.advance(ROOM) == []
    await ended(bench, out[:3], State.ACCEPTED)
    assert len(await stage.advance(ROOM)) == 3


async def rejected(bench: "Bench", job_id: str = "job-1") -> Lodgment:
    row = replace(
        a_lodgment(bench.now), job_id=job_id, state=State.REJECTED, due_at=None, sent_at=bench.now, attempts=1
    )
    await bench.add(row)
    async with bench.ledger.transaction() as tx:
        await payees.add(tx, [(row.id, {"1": "payee-7"})])
    return row


async def test_a_rejected_document_is_lodged_again_as_a_new_lodgment_that_cites_the_old_one(bench: "Bench") -> None:
    old = await rejected(bench)
    one = await running(bench, Mode.NEW_REFERENCE)
    [message] = await ReplayStage(bench.context(), POLICY).advance(ROOM)
    assert message.routing_key == later(Step.AUTHORISE)
    async with bench.ledger.transaction(read_only=True) as tx:
        new = (await lodgments.known_jobs(tx, ["job-1+2"]))["job-1+2"]
        [of_old] = await operators.of(tx, old.id)
        [of_new] = await operators.of(tx, new.id)
        whom = await payees.load(tx, [new.id])
        [item] = await replay_reports.list_(tx, one.id, None, 10)
    assert await bench.lodgment(old) == old
    assert (new.payload_id, new.state) == (old.payload_id, State.RECEIVED)
    assert new.reference != old.reference
    assert whom == {new.id: {"1": "payee-7"}}
    assert (item.successor_id, item.now_state) == (new.id, State.RECEIVED)
    assert of_old.action == f"lodged again as job-1+2, {new.reference}"
    assert of_new.action == f"lodged in place of job-1, {old.reference}"
    assert of_new.who == "ana@desk, approved by ben@desk"
    await ended(bench, [new.id], State.ACCEPTED)
    stage = ReplayStage(bench.context(), POLICY)
    await stage.advance(ROOM)
    await stage.advance(ROOM)
    done = await now_of(bench, one)
    assert (done.state, done.ended, done.failed) == (ReplayState.DONE, 1, 0)


@on_sqlite
async def test_a_document_whose_producer_has_lodged_it_again_is_left_alone(bench: "Bench") -> None:
    old = await rejected(bench)
    await bench.add(replace(a_lodgment(bench.now), job_id="job-1+2"))
    one = await running(bench, Mode.NEW_REFERENCE)
    assert await ReplayStage(bench.context(), POLICY).advance(ROOM) == []
    async with bench.ledger.transaction(read_only=True) as tx:
        [item] = await replay_reports.list_(tx, one.id, ItemState.SKIPPED, 10)
    assert (item.lodgment_id, item.known) == (old.id, Known.JOB_ID_TAKEN)
    assert (await bench.lodgment(old)).state is State.REJECTED


@on_sqlite
@pytest.mark.parametrize("mode", [Mode.SAFEST, Mode.SAME_BYTES, Mode.SAME_REFERENCE])
async def test_no_other_mode_touches_what_is_final(bench: "Bench", mode: Mode) -> None:
    await rejected(bench)
    assert (await planned(bench, mode)).total == 0


async def lived(bench: "Bench", number: int, seconds: float) -> None:
    """Live lodgments received in the last second, each accepted so many seconds later."""
    rows = []
    for place in range(number):
        row = a_lodgment(bench.now - timedelta(seconds=1) + timedelta(seconds=place / number))
        took = timedelta(seconds=seconds * (place + 1) / number)
        sent_at, finished_at = row.received_at + took / 2, row.received_at + took
        done = replace(row, state=State.ACCEPTED, due_at=None, attempts=1, sent_at=sent_at, finished_at=finished_at)
        rows.append(replace(done, channel="live"))
    await bench.add(*rows)


async def test_when_live_work_becomes_slower_the_replay_does_and_says_so_until_it_may_go_on(bench: "Bench") -> None:
    await held(bench, 200)
    await lived(bench, 400, seconds=0.5)
    one = await running(bench)
    await changed(bench, replace(one, stage=2, rate=20))
    stage = ReplayStage(bench.context(), POLICY)
    await stage.advance(ROOM)
    began = await now_of(bench, one)
    assert began.pace is not None
    assert {leg: [level.of for level in known] for leg, known in began.pace.levels.items()} == {
        Leg.SENT: [400, 400],
        Leg.FINAL: [400, 400],
    }
    bench.now += timedelta(seconds=2)
    await lived(bench, 100, seconds=0.5)
    await stage.advance(ROOM)
    assert (await now_of(bench, one)).speed == 20
    with capture_logs() as logs:
        bench.now += timedelta(seconds=2)
        await lived(bench, 100, seconds=2)
        out = await stage.advance(ROOM)
    slowed = await now_of(bench, one)
    assert slowed.pace is not None
    assert slowed.speed == 10
    assert len(out) <= slowed.speed * POLICY.burst.total_seconds()
    [told] = [entry for entry in logs if entry["event"] == "replay.slowed"]
    assert (told["speed"], told["why"]) == (10, slowed.pace.why)
    assert "live lodgments took more than" in told["why"]
    bench.now += POLICY.pace.settle
    await lived(bench, 100, seconds=0.5)
    await stage.advance(ROOM)
    assert 10 < (await now_of(bench, one)).speed < 20


async def test_it_becomes_faster_also_where_each_has_ended_before_the_next_look(bench: "Bench") -> None:
    await held(bench, 200)
    await lived(bench, 400, seconds=0.5)
    one = await running(bench)
    await changed(bench, replace(one, stage=2, rate=100, paced_at=bench.now))
    stage = ReplayStage(bench.context(), replace(POLICY, pace=PacePolicy(first=0.1)))
    speeds = []
    for _ in range(10):
        bench.now += SECOND
        out = await stage.advance(ROOM)
        await ended(bench, ids(out), State.ACCEPTED)
        speeds.append((await now_of(bench, one)).speed)
    assert speeds[0] == 10
    assert speeds[-1] > speeds[0]
    assert speeds == sorted(speeds)


@on_sqlite
async def test_what_is_replayed_itself_or_waits_for_others_says_nothing_of_live_work(bench: "Bench") -> None:
    await held(bench, 200, replayed_at=bench.now)
    waiting = replace(a_lodgment(bench.now), state=State.PARKED, resume=State.RECEIVED, reason=Reason("lane.turn", ""))
    again = replace(a_lodgment(bench.now), state=State.ACCEPTED, due_at=None, attempts=3, finished_at=bench.now)
    replayed = replace(a_lodgment(bench.now), replayed_at=bench.now)
    unsent = a_lodgment(bench.now)
    await bench.add(waiting, again, replayed, unsent)
    bench.now += timedelta(seconds=3)
    async with bench.ledger.transaction(read_only=True) as tx:
        found = await live_times.taken(tx, bench.now - timedelta(minutes=1), bench.now, bench.now, 100)
    assert found == {Leg.SENT: [3.0], Leg.FINAL: []}


@on_sqlite
async def test_before_a_closed_door_it_is_waited_for_however_long_and_nothing_is_blamed(bench: "Bench") -> None:
    await held(bench, 9)
    one = await running(bench)
    stage = ReplayStage(bench.context(), POLICY)
    [first] = ids(await stage.advance(ROOM))
    door = Reason("breaker.open", "synthetic", Party.AGENCY)
    async with bench.ledger.transaction() as tx:
        row = (await lodgments.load(tx, [first]))[first]
        waits = row.moved(State.PARKED, due_at=bench.now + timedelta(days=9), resume=State.SEALED, reason=door)
        assert await lodgments.move(tx, [(row, waits)])
    for _ in range(3):
        bench.now += POLICY.patience
        assert await stage.advance(ROOM) == []
    resting = await now_of(bench, one)
    assert (resting.state, resting.started, resting.ended, resting.failed) == (ReplayState.RUNNING, 1, 0, 0)
    async with bench.ledger.transaction(read_only=True) as tx:
        assert await replay_items.unsent(tx, one.id) == 1
    await bench.moved(waits, waits.moved(State.ACCEPTED))
    bench.now += timedelta(seconds=1)
    assert len(await stage.advance(ROOM)) == 3
