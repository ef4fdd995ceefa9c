"""Lanes: who is before whom, and that asking costs the same however many wait."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from pipeline.ledger import lanes, lodgments
from pipeline.ledger.session import Ledger
from pipeline.lodgment.lodgment import LANE_TURN, Lodgment
from pipeline.lodgment.states import State
from tests.doubles.lodgments import NOW, a_lodgment
from tests.doubles.plans import noted, pages
from tests.integration.ledger.samples import new, parked


def lane(size: int, key: str = "lane") -> list[Lodgment]:
    """One that is sent, and those behind it."""
    first = replace(a_lodgment(), order_key=key, state=State.AWAITING, resume=State.RECEIVED, sent_at=NOW)
    behind = [replace(parked(a_lodgment(NOW + timedelta(seconds=n)), LANE_TURN), order_key=key) for n in range(1, size)]
    return [first, *behind]


async def store(ledger: Ledger, rows: Sequence[Lodgment]) -> None:
    for start in range(0, len(rows), 1000):
        async with ledger.transaction() as tx:
            await lodgments.add(tx, new(rows[start : start + 1000]))


async def test_counts_who_is_before_a_lodgment_up_to_a_hundred(ledger: Ledger) -> None:
    rows = lane(150)
    await store(ledger, rows)
    async with ledger.transaction(read_only=True) as tx:
        found = await lanes.blocked(tx, [row.id for row in rows])
    assert found == {row.id: min(number, lanes.COUNTED) for number, row in enumerate(rows) if number}


async def test_names_who_has_the_lane(ledger: Ledger) -> None:
    first, second, third = lane(3)
    late = replace(a_lodgment(NOW - timedelta(hours=1)), order_key="lane", state=State.SEALED)
    others = lane(2, "other lane")
    await store(ledger, [first, second, third, late, *others])
    async with ledger.transaction(read_only=True) as tx:
        assert await lanes.holder(tx, first) is None
        assert await lanes.holder(tx, second) == first
        assert await lanes.holder(tx, late) == first
        found = await lanes.longest(tx, 5)
    assert [(one.first, one.waiting) for one in found] == [(first, 2), (others[0], 1)]


async def test_a_lane_that_is_held_by_its_first_lets_the_first_go_first(ledger: Ledger) -> None:
    held, second = lane(2)
    held = replace(held, state=State.HELD, due_at=None, resume=None, sent_at=None)
    await store(ledger, [held, second])
    async with ledger.transaction(read_only=True) as tx:
        assert await lanes.holder(tx, held) is None
        assert await lanes.holder(tx, second) == held
        assert await lanes.next_turn(tx, ["lane"]) == []


async def test_asking_about_a_lane_costs_the_same_with_thousands_in_it(postgresql_ledger: Ledger) -> None:
    """The question asked when one is final, and the one asked before one is sent; pages read, on PostgreSQL."""
    small, large = lane(50, "small"), lane(5000, "large")
    await store(postgresql_ledger, small)
    await store(postgresql_ledger, large)
    async with postgresql_ledger.transaction() as tx:
        await tx.connection.exec_driver_sql("ANALYZE lodgment")
    cost = {}
    for name, rows in (("small", small), ("large", large)):
        async with postgresql_ledger.transaction() as tx:
            with noted(tx) as statements:
                await lanes.next_turn(tx, [name])
                await lanes.blocked(tx, [rows[0].id, rows[1].id])
            cost[name] = await pages(tx, statements)
    assert cost["large"] <= cost["small"] * 2, cost


async def test_two_that_look_at_one_lane_in_the_same_instant_do_not_both_find_it_free(
    postgresql_ledger: Ledger,
) -> None:
    """The later one is being claimed, not committed yet, when another intake stores the earlier one."""
    earlier = replace(a_lodgment(), order_key="lane", state=State.SEALED)
    later = replace(a_lodgment(NOW + timedelta(seconds=1)), order_key="lane", state=State.SEALED)
    await store(postgresql_ledger, [later])
    claiming, stored = asyncio.Event(), asyncio.Event()

    async def claim_later() -> None:
        async with postgresql_ledger.transaction() as tx:
            await lanes.lock(tx, ["lane"])
            assert await lanes.blocked(tx, [later.id]) == {}
            claiming.set()
            await stored.wait()
            sent = replace(later.moved(State.SENDING, due_at=NOW), sent_at=NOW)
            assert await lodgments.move(tx, [(later, sent)])

    async def look() -> dict[UUID, int]:
        async with postgresql_ledger.transaction() as tx:
            await lanes.lock(tx, ["lane"])
            return await lanes.blocked(tx, [earlier.id])

    claim = asyncio.create_task(claim_later())
    await claiming.wait()
    await store(postgresql_ledger, [earlier])
    looking = asyncio.create_task(look())
    stored.set()
    await claim
    assert await looking == {earlier.id: 1}
