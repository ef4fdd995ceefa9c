"""watch: each lateness is told once, whoever looks and however often, and is to be seen while it lasts."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from structlog.testing import capture_logs

from pipeline.ledger import watch
from pipeline.lodgment.states import State, Step
from pipeline.lodgment.watching import Lateness
from pipeline.stages.record import Record
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
