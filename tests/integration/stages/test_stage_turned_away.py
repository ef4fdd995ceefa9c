"""HTTP 401, 403, 404 and 405 from what stands before an agency: whoever meets one waits, nobody is held, and only many
employers who meet them close the door for all.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from pipeline.ledger import holds
from pipeline.lodgment.breaker import BreakerPolicy, BreakerState
from pipeline.lodgment.doors import BreakerPolicies
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import BREAKER_OPEN
from pipeline.lodgment.states import State
from tests.integration.stages.street import Street

if TYPE_CHECKING:
    from pipeline.lodgment.lodgment import Lodgment
    from tests.integration.stages.conftest import Bench

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
ONE, OTHER = "51824753556", "53004085616"


def employers(count: int) -> list[str]:
    return [f"{number:011d}" for number in range(1, count + 1)]


async def of_each(street: Street, abns: list[str]) -> "list[Lodgment]":
    return [(await street.sealed(1, party_abn=abn))[0] for abn in abns]


async def test_one_employer_who_is_turned_away_stops_nobody_else_and_is_not_held(bench: "Bench") -> None:
    street = Street(bench, batch=40)
    blocked = await street.sealed(30, party_abn=ONE)
    street.agency.turned_away = {row.reference for row in blocked}
    others = await street.sealed(10, party_abn=OTHER)
    await street.work()
    assert await street.states(others) == {State.ACCEPTED: 10}
    assert await street.states(blocked) == {State.PARKED: 30}
    assert (await street.breaker()).state is BreakerState.CLOSED
    async with bench.ledger.transaction(read_only=True) as tx:
        assert await holds.standing(tx, 10) == []
    found = await bench.lodgment(blocked[0])
    assert found.reason is not None
    assert (found.reason.code, found.reason.who, found.tally.failures) == ("http.403", Party.OPERATOR, 0)


async def test_it_goes_on_by_itself_when_it_is_let_in(bench: "Bench") -> None:
    street = Street(bench)
    rows = await street.sealed(10, party_abn=ONE)
    street.agency.turned_away = {row.reference for row in rows}
    await street.live(5 * MINUTE, 10 * SECOND)
    street.agency.turned_away = set()
    await street.live(10 * MINUTE, 10 * SECOND)
    assert await street.states(rows) == {State.ACCEPTED: 10}
    assert set(street.agency.processed.values()) == {1}


@pytest.mark.parametrize("status", [403, 404])
async def test_many_employers_who_are_turned_away_close_the_door(bench: "Bench", status: int) -> None:
    street = Street(bench)
    street.agency.mood = status
    asked = await of_each(street, employers(8))
    await street.work()
    late = await of_each(street, employers(20))
    await street.work()
    breaker = await street.breaker()
    assert breaker.state is BreakerState.OPEN
    assert breaker.cause is not None
    assert (breaker.cause.code, breaker.cause.who) == (f"http.{status}", Party.OPERATOR)
    assert sum(street.agency.seen.values()) == len(asked)
    found = await bench.lodgment(late[0])
    assert found.reason is not None
    assert (found.reason.code, found.reason.who) == (BREAKER_OPEN, Party.OPERATOR)
    street.agency.mood = None
    await street.live(2 * MINUTE)
    assert await street.states(asked + late) == {State.ACCEPTED: 28}


async def test_the_door_opens_for_others_though_those_most_in_haste_are_turned_away_for_good(bench: "Bench") -> None:
    street = Street(bench)
    street.agency.mood = 403
    await of_each(street, employers(8))
    await street.work()
    today = bench.now.date()
    hasty = [row for abn in employers(2) for row in await street.sealed(60, party_abn=abn, due_date=today)]
    others = await street.sealed(20, party_abn=OTHER)
    await street.work()
    street.agency.mood = None
    street.agency.turned_away = {row.reference for row in hasty}
    await street.live(3 * MINUTE, 2 * SECOND)
    assert await street.states(others) == {State.ACCEPTED: 20}
    assert (await street.breaker()).state is BreakerState.CLOSED


async def test_one_employers_refusals_do_not_stop_a_ramp(bench: "Bench") -> None:
    street = Street(bench, BreakerPolicies(BreakerPolicy(ramp=(4, 10), ramp_answered=0.5)))
    street.agency.mood = 503
    await street.sealed(8, party_abn=OTHER)
    await street.work()
    blocked = await street.sealed(20, party_abn=ONE, due_date=bench.now.date())
    street.agency.turned_away = {row.reference for row in blocked}
    others = await street.sealed(20, party_abn=OTHER)
    await street.work()
    street.agency.mood = None
    await street.live(MINUTE)
    assert await street.states(others) == {State.ACCEPTED: 20}
    assert (await street.breaker()).state is BreakerState.CLOSED
