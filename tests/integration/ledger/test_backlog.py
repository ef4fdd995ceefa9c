from dataclasses import replace
from datetime import date, timedelta

from pipeline.ledger import backlog, lodgments
from pipeline.ledger.backlog import DueDay, Overdue
from pipeline.ledger.session import Ledger
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.states import State
from tests.doubles.lodgments import NOW, a_lodgment
from tests.integration.ledger.samples import new, parked


def held(code: str, age: timedelta = timedelta(0)) -> Lodgment:
    row = a_lodgment(NOW - age)
    return replace(row, state=State.HELD, due_at=None, reason=Reason(code, "synthetic", Party.OPERATOR))


async def store(ledger: Ledger, *rows: Lodgment) -> None:
    async with ledger.transaction() as tx:
        await lodgments.add(tx, new(rows))


async def test_groups_what_is_held_and_what_waits_by_its_reason(ledger: Ledger) -> None:
    oldest = held("E2014", age=timedelta(hours=2))
    waiting = parked(a_lodgment(), "asic:FAULT.UNAVAILABLE", NOW + timedelta(minutes=3))
    await store(ledger, held("E2014"), oldest, held("keystore.unlock"), waiting, a_lodgment())

    async with ledger.transaction(read_only=True) as tx:
        found = await backlog.reasons(tx)

    assert [(one.state, one.code, one.count) for one in found] == [
        (State.HELD, "E2014", 2),
        (State.HELD, "keystore.unlock", 1),
        (State.PARKED, "asic:FAULT.UNAVAILABLE", 1),
    ]
    assert (found[0].oldest, found[0].example, found[0].who) == (oldest.received_at, oldest.id, Party.OPERATOR)
    assert [one.next_at for one in found] == [None, None, waiting.due_at]


async def test_counts_due_dates_of_open_lodgments_only(ledger: Ledger) -> None:
    day = date(2026, 11, 25)
    final = replace(a_lodgment(), state=State.ACCEPTED, due_at=None, due_date=day)
    later = replace(a_lodgment(), due_date=date(2026, 12, 25))
    rows = (replace(a_lodgment(), due_date=day), replace(held("E2014"), due_date=day), final, later, a_lodgment())
    await store(ledger, *rows)

    async with ledger.transaction(read_only=True) as tx:
        assert await backlog.due_days(tx, date(2026, 12, 1)) == [DueDay(day, 2)]


async def test_counts_what_nobody_woke(ledger: Ledger) -> None:
    late = replace(a_lodgment(), due_at=NOW - timedelta(minutes=5))
    await store(ledger, late, a_lodgment(), held("E2014"))

    async with ledger.transaction(read_only=True) as tx:
        assert await backlog.overdue(tx, NOW) == Overdue(1, late.due_at)
        assert await backlog.overdue(tx, NOW - timedelta(hours=1)) == Overdue(0, None)


async def test_finds_what_is_held_for_one_reason_the_oldest_first(ledger: Ledger) -> None:
    rows = [held("E2014", age=timedelta(hours=hours)) for hours in (1, 3, 2)]
    await store(ledger, *rows, held("E2015"), parked(a_lodgment(), "E2014"))

    async with ledger.transaction(read_only=True) as tx:
        found = await backlog.held_for(tx, "E2014", 2)

    assert [one.id for one in found] == [rows[1].id, rows[2].id]
