"""watch: each lateness is told once, whoever looks and however often, and is to be seen while it lasts."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from structlog.testing import capture_logs

from pipeline.broker.messages import OutcomeEvent, read_step_message
from pipeline.ledger import watch
from pipeline.lodgment.deadlines import Nearness, deadline
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Reason
from pipeline.lodgment.states import State, Step
from pipeline.lodgment.watching import Lateness
from pipeline.stages.record import Record
from pipeline.stages.reschedule import Reschedule
from pipeline.stages.submit import Submit
from pipeline.stages.watch import Watch
from pipeline.telemetry import Metrics
from tests.integration.stages.conftest import deliveries, drive
from tests.integration.stages.test_stage_holds import Agency
from tests.integration.stages.test_stage_record import LOST, accepted

if TYPE_CHECKING:
    from pipeline.lodgment.lodgment import Lodgment
    from tests.integration.stages.conftest import Bench


async def unanswered(bench: "Bench") -> "Lodgment":
    """Sent by the transport worker, which was killed before an answer came."""
    row = await bench.sealed()

    class Dying(Submit):
        async def _store(self, results: object) -> None:
            del results
            raise ConnectionError

    try:
        await drive(Dying(bench.context(), Agency()), deliveries(Step.SUBMIT, row))
    except ConnectionError:
        return await bench.lodgment(row)
    raise AssertionError


def watching(bench: "Bench", metrics: Metrics | None = None) -> Watch:
    return Watch(bench.context(), metrics or Metrics(), 100)


async def test_a_missing_receipt_is_told_once_by_whichever_scheduler_sees_it(bench: "Bench") -> None:
    rows = [await unanswered(bench) for _ in range(3)]
    metrics = Metrics()
    with capture_logs() as logs:
        await watching(bench, metrics).look()
        bench.now += timedelta(minutes=5)
        await asyncio.gather(*(watching(bench, metrics).look() for _ in range(3)))
        bench.now += timedelta(minutes=5)
        await watching(bench, metrics).look()
    told = [(entry["lodgment"], entry["code"], entry["log_level"]) for entry in logs if entry["event"] == "watch.late"]
    assert sorted(told) == sorted((str(row.id), "receipt.missing", "warning") for row in rows)
    async with bench.ledger.transaction(read_only=True) as tx:
        [late] = await watch.late(tx)
    assert (late.lateness, late.count, late.since) == (Lateness.RECEIPT, 3, rows[0].sent_at)
    await watching(bench, metrics).count()
    shown = generate_latest(metrics.registry).decode()
    assert 'lodge_late{channel="asic_bn",lateness="receipt.missing"} 3.0' in shown
    assert 'lodge_late_told_total{channel="asic_bn",lateness="receipt.missing"} 3.0' in shown
    assert 'lodge_oldest_seconds{channel="asic_bn",state="sending"} 600.0' in shown


async def test_what_is_answered_is_late_no_longer(bench: "Bench") -> None:
    row = await bench.sealed()
    claimed, attempt = await bench.sent(row, None)
    watched = await bench.moved(
        claimed, replace(claimed.moved(State.UNKNOWN, due_at=bench.now, resume=State.SEALED), watch_at=bench.now)
    )
    bench.now += timedelta(minutes=6)
    await watching(bench).look()
    await bench.answered(attempt, accepted(row))
    await drive(Record(bench.context()), deliveries(Step.RECORD, watched, attempt=attempt))
    async with bench.ledger.transaction(read_only=True) as tx:
        assert await watch.late(tx) == []


async def test_a_lodgment_that_moves_meanwhile_is_moved_and_told_all_the_same(bench: "Bench") -> None:
    """A step that read the row before the watch wrote to it puts the old time back; the warning is not repeated."""
    row = await unanswered(bench)
    bench.now += timedelta(minutes=6)
    with capture_logs() as logs:
        await watching(bench).look()
        await bench.moved(row, row.moved(State.UNKNOWN, due_at=bench.now, resume=State.SEALED))
        await watching(bench).look()
    assert [entry["event"] for entry in logs if entry["event"] == "watch.late"] == ["watch.late"]


async def test_an_unknown_answer_is_not_a_receipt(bench: "Bench") -> None:
    row = await bench.sealed()
    claimed, attempt = await bench.sent(row, LOST)
    claimed = await bench.moved(claimed, replace(claimed.moved(State.UNKNOWN, due_at=bench.now), watch_at=bench.now))
    del attempt
    bench.now += timedelta(minutes=6)
    with capture_logs() as logs:
        await watching(bench).look()
    assert [entry["lodgment"] for entry in logs if entry["event"] == "watch.late"] == [str(claimed.id)]


async def warned(watch_: Watch) -> list[tuple[str, str]]:
    """What is told now, to whom it concerns: the lodgment and the code."""
    found = await watch_.near_due()
    await watch_.told(found)
    told = [(OutcomeEvent.read(one.event.body), one.event.routing_key) for one in found]
    assert all(key == f"outcome.asic_bn.warned.{event.abn}" for event, key in told)
    return sorted((str(event.lodgment), event.reason.code) for event, _ in told if event.reason is not None)


async def test_a_due_date_that_comes_near_is_told_once_at_each_step_also_of_what_is_held(bench: "Bench") -> None:
    due = (bench.now + timedelta(days=3)).date()
    waiting = await bench.sealed(due_date=due)
    held = await bench.sealed(due_date=due)
    await bench.moved(held, held.moved(State.HELD, reason=Reason("E2014", "It was revoked.", Party.OPERATOR)))
    done = await bench.sealed(due_date=due)
    await bench.moved(done, done.moved(State.ACCEPTED))
    await bench.sealed()
    metrics = Metrics()
    watch_ = watching(bench, metrics)
    both = sorted(str(row.id) for row in (waiting, held))
    with capture_logs() as logs:
        for left, code in ((25, None), (24, "due.soon"), (5, None), (4, "due.last"), (0, "due.missed"), (-30, None)):
            bench.now = deadline(due) - timedelta(hours=left)
            assert await warned(watch_) == ([(one, code) for one in both] if code else [])
            assert await warned(watch_) == []
    lines = [entry for entry in logs if entry["event"] == "watch.due"]
    assert len(lines) == 6
    assert {entry["reason"] for entry in lines} == {None, "E2014"}
    async with bench.ledger.transaction(read_only=True) as tx:
        [near] = await watch.near(tx, due)
    assert (near.nearness, near.count, near.due) == (Nearness.MISSED, 2, due)
    await watch_.count()
    shown = generate_latest(metrics.registry).decode()
    assert 'lodge_late{channel="asic_bn",lateness="due.missed"} 2.0' in shown
    assert 'lodge_late_told_total{channel="asic_bn",lateness="due.last"} 2.0' in shown


async def test_two_schedulers_log_a_due_date_once(bench: "Bench") -> None:
    await bench.sealed(due_date=bench.now.date())
    first, second = watching(bench), watching(bench)
    both = [await first.near_due(), await second.near_due()]
    assert len({one.event.message_id for found in both for one in found}) == 1
    with capture_logs() as logs:
        await first.told(both[0])
        await second.told(both[1])
    assert [entry["event"] for entry in logs] == ["watch.due"]


async def test_when_more_is_due_than_a_sweep_takes_the_earliest_due_dates_go_first(bench: "Bench") -> None:
    today = bench.now.date()
    rows = []
    for number in range(9):
        due = today + timedelta(days=9 - number) if number % 3 == 0 else None
        row = await bench.sealed(due_date=due)
        rows.append(await bench.moved(row, row.moved(State.PARKED, due_at=bench.now, resume=State.SEALED)))
        bench.now += timedelta(seconds=1)
    swept = [await Reschedule(bench.context(), 4).sweep() for _ in range(3)]
    order = [str(read_step_message(one.body).lodgment_id) for messages in swept for one in messages]
    assert [len(messages) for messages in swept] == [4, 4, 1]
    assert order[:3] == [str(rows[number].id) for number in (6, 3, 0)]
    assert set(order) == {str(row.id) for row in rows}
