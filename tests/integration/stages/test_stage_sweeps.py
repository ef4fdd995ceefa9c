"""Stuck lodgments are found whatever they are stuck at, put right, and told; and so are sweeps that do not run."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from pipeline.interfaces.cli.operate import write_released
from pipeline.ledger import attempts, channel_states, holds, lodgments, quarantine, sweeps, token_queue
from pipeline.ledger.quarantine import Fate, Quarantined, Settling
from pipeline.ledger.token_queue import Wanted
from pipeline.lodgment.breaker import Breaker, BreakerScope, BreakerState
from pipeline.lodgment.failures import Blast, Party
from pipeline.lodgment.holds import Hold, HoldState, Reach
from pipeline.lodgment.lodgment import TOKEN_REQUESTED, Lodgment, Purpose, Reason
from pipeline.lodgment.references import TokenKey, TokenKeyHash
from pipeline.lodgment.states import State, Step
from pipeline.lodgment.sweeping import LATE_AFTER, SweepKind
from pipeline.stages.record import Record
from pipeline.stages.reschedule import Reschedule
from pipeline.stages.sweep import Sweep, SweepWatch
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.integration.stages.conftest import deliveries, drive
from tests.integration.stages.test_stage_record import accepted

if TYPE_CHECKING:
    from tests.integration.stages.conftest import Bench

only_sqlite = pytest.mark.parametrize("bench", ["sqlite"], indirect=True)
LONG_AGO = NOW - timedelta(hours=1)
KEY = TokenKey("sandbox", "https://sts", "https://rp", "ABRD:1_x", "51824753556", None, (), 512)


def a_hold(state: HoldState, canary: Lodgment | None = None) -> Hold:
    reach = Reach("asic_bn", Blast.EMPLOYER, str(fresh_id()))
    canary_id = None if canary is None else canary.id
    text = "Not authorised."
    return Hold(
        fresh_id(), reach, "AUTH", text, Party.EMPLOYER, Purpose.SUBMIT, LONG_AGO, state, canary_id, LONG_AGO, "ana"
    )


async def held_by(bench: "Bench", hold: Hold) -> Lodgment:
    row = replace(
        a_lodgment(), state=State.HELD, due_at=None, hold_id=hold.id, reason=Reason("AUTH", "", Party.EMPLOYER)
    )
    await bench.add(row)
    return row


async def establish(bench: "Bench", *wanted: Hold) -> None:
    async with bench.ledger.transaction() as tx:
        await holds.establish(tx, wanted)


async def the_hold(bench: "Bench", hold: Hold) -> Hold:
    async with bench.ledger.transaction(read_only=True) as tx:
        found = await holds.load(tx, hold.id)
    assert found is not None
    return found


async def waiting_for_a_token(bench: "Bench", key: TokenKeyHash) -> Lodgment:
    row = replace(
        a_lodgment(),
        state=State.PARKED,
        resume=State.RECEIVED,
        token_key=key,
        reason=Reason(TOKEN_REQUESTED, ""),
        due_at=NOW + timedelta(minutes=30),
    )
    await bench.add(row)
    return row


async def quarantined(bench: "Bench", row: Lodgment) -> None:
    item = Quarantined(
        fresh_id(), Step.SEAL, "defect.ValueError", "unexpected", None, row.id, "m", b"{}", received_at=NOW
    )
    async with bench.ledger.transaction() as tx:
        await quarantine.add(tx, [item])


def alarms(logs: list[Any]) -> dict[str, int]:
    return {log["kind"]: log["count"] for log in logs if log["event"] == "sweep.acted"}


async def sweep_all(bench: "Bench") -> tuple[dict[str, int], dict[str, Step | str]]:
    """The alarms, and the step that each lodgment was queued for."""
    context = bench.context()
    with capture_logs() as logs:
        messages = await Reschedule(context, 100).sweep() + await Sweep(context, 100).look()
    for kind, count in alarms(logs).items():
        assert context.metrics.registry.get_sample_value("lodge_sweep_acted_total", {"kind": kind}) == count
    return alarms(logs), {message.message_id.partition(".")[0]: message.routing_key for message in messages}


async def test_whatever_is_stuck_is_put_right_once_and_told(bench: "Bench") -> None:
    lost = replace(a_lodgment(), due_at=LONG_AGO)
    poison = replace(a_lodgment(), state=State.AUTHORISED, due_at=LONG_AGO)
    await bench.add(lost, poison)
    await quarantined(bench, poison)
    sending, _ = await bench.sent(await bench.sealed(), None)
    await bench.moved(sending, replace(sending, version=sending.version + 1, due_at=LONG_AGO))
    forgotten = await waiting_for_a_token(bench, TokenKeyHash("0" * 64))
    ended, forsaken = a_hold(HoldState.ENDED), a_hold(HoldState.STANDING)
    left = await held_by(bench, ended)
    first, second = await held_by(bench, forsaken), await held_by(bench, forsaken)
    await establish(bench, ended, forsaken)
    async with bench.ledger.transaction() as tx:
        await holds.change(tx, [replace(forsaken, state=HoldState.PROBING, canary_id=first.id)])
    await bench.moved(first, first.moved(State.CANCELLED))
    settled, attempt = await bench.sent(await bench.sealed(), None)
    await bench.moved(settled, settled.moved(State.ACCEPTED))
    bench.now = attempt.started_at + 2 * bench.timing.lease + timedelta(seconds=1)

    told, queued = await sweep_all(bench)
    assert told == {
        SweepKind.MESSAGE_LOST: 1,
        SweepKind.QUARANTINE_UNHELD: 1,
        SweepKind.LEASE_OVER: 1,
        SweepKind.TOKEN_UNSERVED: 1,
        SweepKind.HOLD_UNMOVED: 2,
        SweepKind.ATTEMPT_OPEN: 1,
    }
    for row, step in ((lost, Step.AUTHORISE), (sending, Step.RECORD), (forgotten, Step.AUTHORISE)):
        assert queued[str(row.id)] == step
    for row in (left, second):
        assert queued[str(row.id)] == Step.AUTHORISE
        assert (await bench.lodgment(row)).state is State.RECEIVED
    assert (await bench.lodgment(poison)).reason == Reason("defect.ValueError", "unexpected", Party.OPERATOR)
    assert (await the_hold(bench, forsaken)).canary_id == second.id
    async with bench.ledger.transaction(read_only=True) as tx:
        [completed] = (await attempts.load(tx, [attempt.id])).values()
        noted = await sweeps.notes(tx)
    assert completed.failure is not None
    assert completed.failure.code == "worker.lost"
    assert {kind: (one.last_run_at, one.acted) for kind, one in noted.items()} == {
        kind: (bench.now, count) for kind, count in told.items()
    }

    assert await sweep_all(bench) == ({}, {})


@only_sqlite
async def test_a_reply_that_a_lost_attempt_still_brings_takes_the_verdicts_place(bench: "Bench") -> None:
    row, first = await bench.sent(await bench.sealed(), None)
    unknown = await bench.moved(row, row.moved(State.UNKNOWN, due_at=bench.now, resume=State.SEALED))
    bench.now += 3 * bench.timing.lease
    assert (await sweep_all(bench))[0] == {SweepKind.ATTEMPT_OPEN: 1}
    await bench.answered(first, accepted(unknown))
    await drive(Record(bench.context()), deliveries(Step.RECORD, unknown, attempt=first))
    assert (await bench.lodgment(row)).state is State.ACCEPTED


@only_sqlite
async def test_a_hold_whose_first_lodgment_is_held_itself_stands_again(bench: "Bench") -> None:
    hold = a_hold(HoldState.STANDING)
    first, second = await held_by(bench, hold), await held_by(bench, hold)
    await establish(bench, hold)
    async with bench.ledger.transaction() as tx:
        await holds.change(tx, [replace(hold, state=HoldState.PROBING, canary_id=first.id)])
    assert await sweep_all(bench) == ({SweepKind.HOLD_UNMOVED: 1}, {})
    assert (await the_hold(bench, hold)).state is HoldState.STANDING
    assert (await bench.lodgment(second)).state is State.HELD


@only_sqlite
async def test_a_released_hold_that_keeps_nobody_ends(bench: "Bench") -> None:
    hold = a_hold(HoldState.STANDING)
    first = await held_by(bench, hold)
    await establish(bench, hold)
    async with bench.ledger.transaction() as tx:
        await holds.change(tx, [replace(hold, state=HoldState.PROBING, canary_id=first.id)])
    await bench.moved(first, first.moved(State.CANCELLED))
    assert (await sweep_all(bench))[0] == {SweepKind.HOLD_UNMOVED: 1}
    assert (await the_hold(bench, hold)).state is HoldState.ENDED


@only_sqlite
async def test_a_token_that_nobody_asks_for_is_told_and_who_waits_stays(bench: "Bench") -> None:
    async with bench.ledger.transaction() as tx:
        await token_queue.want(tx, [Wanted(KEY)], NOW, NOW + timedelta(minutes=5))
    row = await waiting_for_a_token(bench, KEY.hash())
    bench.now += timedelta(minutes=1)
    assert await sweep_all(bench) == ({}, {})
    bench.now += timedelta(minutes=2)
    assert await sweep_all(bench) == ({SweepKind.TOKEN_UNSERVED: 1}, {})
    assert (await bench.lodgment(row)).state is State.PARKED


@only_sqlite
@pytest.mark.parametrize(
    "breaker",
    [
        Breaker(state=BreakerState.OPEN, probe_at=NOW + timedelta(hours=1)),
        Breaker(allowed_at=NOW + timedelta(minutes=9)),
    ],
    ids=["the service is away", "somebody asks as the budget allows"],
)
async def test_a_token_that_must_wait_its_turn_is_no_alarm(bench: "Bench", breaker: Breaker) -> None:
    async with bench.ledger.transaction() as tx:
        await token_queue.want(tx, [Wanted(KEY)], NOW, NOW + timedelta(minutes=5))
        await channel_states.lock(tx, BreakerScope.STS, KEY.sts)
        await channel_states.write(tx, BreakerScope.STS, KEY.sts, breaker)
    bench.now += timedelta(minutes=10)
    assert (await sweep_all(bench))[0] == {}


@only_sqlite
async def test_sweeps_that_nobody_runs_are_told_once_by_every_worker(bench: "Bench") -> None:
    context = bench.context()
    watch = SweepWatch(context)

    async def look() -> list[Any]:
        with capture_logs() as logs:
            await watch.look()
        return [log["event"] for log in logs]

    assert await look() == []
    bench.now += LATE_AFTER + timedelta(seconds=1)
    assert await look() == ["sweep.missing"]
    assert await look() == []
    age = context.metrics.registry.get_sample_value("lodge_sweep_age_seconds", {"kind": "message.lost"})
    assert age == LATE_AFTER.total_seconds() + 1
    await sweep_all(bench)
    assert await look() == ["sweep.back"]


@only_sqlite
async def test_a_sweep_that_finds_nothing_notes_it_now_and_then(bench: "Bench") -> None:
    scheduler = Reschedule(bench.context(), 10)

    async def noted() -> list[Any]:
        async with bench.ledger.transaction(read_only=True) as tx:
            return sorted({one.last_run_at for one in (await sweeps.notes(tx)).values()})

    await scheduler.sweep()
    begun = bench.now
    bench.now += timedelta(seconds=5)
    await scheduler.sweep()
    assert await noted() == [begun]
    bench.now += timedelta(seconds=5)
    await scheduler.sweep()
    assert await noted() == [bench.now]


async def test_what_a_person_releases_is_queued_without_an_alarm(bench: "Bench") -> None:
    row = replace(a_lodgment(), state=State.HELD, due_at=None, reason=Reason("AUTH", "", Party.EMPLOYER))
    await bench.add(row)
    async with bench.ledger.transaction() as tx:
        assert await write_released(tx, [row], "the employer has notified us") == 1
    bench.now = datetime.now(UTC) + timedelta(seconds=1)
    assert await sweep_all(bench) == ({}, {str(row.id): Step.AUTHORISE})

    bench.now += bench.timing.stuck_after + timedelta(seconds=1)
    assert await sweep_all(bench) == ({SweepKind.MESSAGE_LOST: 1}, {str(row.id): Step.AUTHORISE})


@only_sqlite
async def test_what_is_released_after_quarantine_is_not_held_again(bench: "Bench") -> None:
    row = replace(a_lodgment(), due_at=LONG_AGO)
    await bench.add(row)
    await quarantined(bench, row)
    async with bench.ledger.transaction() as tx:
        [item] = await quarantine.list_(tx, 10)
        assert await quarantine.settle(tx, item.id, Settling(Fate.RELEASED, "ana", "mended", bench.now))
    assert (await sweep_all(bench))[0] == {SweepKind.MESSAGE_LOST: 1}
    async with bench.ledger.transaction(read_only=True) as tx:
        assert (await lodgments.load(tx, [row.id]))[row.id].state is State.RECEIVED
