"""authorise: one request in flight for each key, and no storm whatever the token service says."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from pipeline.channels.asic_bn import AsicBusinessNames
from pipeline.ledger import token_queue, tokens
from pipeline.ledger.tables import TokenState
from pipeline.ledger.token_queue import Wanted
from pipeline.lodgment.breaker import BreakerState, Budget
from pipeline.lodgment.failures import Party
from pipeline.lodgment.lodgment import NOT_BEFORE, OPERATOR_RELEASED, TOKEN_REQUESTED, Reason
from pipeline.lodgment.states import State, Step
from pipeline.stages.contract import Timing
from tests.doubles.asic import make_channel
from tests.doubles.lodgments import a_lodgment
from tests.integration.stages.desk import (
    DOWN,
    NO_CLAIMS,
    REVOKED,
    UNREGISTERED,
    Office,
    Service,
    employers,
    reasons,
    received,
    states,
)

if TYPE_CHECKING:
    from tests.integration.stages.conftest import Bench

MINUTE = timedelta(minutes=1)


async def test_lodgments_wait_in_the_ledger_and_go_on_with_the_token(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench))
    rows = await received(bench, "a", "a", "a")
    assert await office.receive(*rows) == []
    assert (await states(bench, rows), await reasons(bench, rows)) == ({State.PARKED}, {TOKEN_REQUESTED})
    told = await office.work()
    assert await states(bench, rows) == {State.AUTHORISED}
    assert [message.routing_key for message in told] == [Step.SEAL] * 3
    assert len(service.asked) == 1
    later = await received(bench, "a")
    assert [message.routing_key for message in await office.receive(*later)] == [Step.SEAL]
    assert len(service.asked) == 1


async def test_a_message_that_comes_twice_asks_once_and_goes_on_once(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench))
    [row] = await received(bench, "a")
    await office.receive(row)
    assert await office.receive(row, row) == []
    assert len(await office.work()) == 1
    assert [message.routing_key for message in await office.receive(row)] == [Step.SEAL]
    assert len(service.asked) == 1


async def test_a_request_in_flight_keeps_nobody_waiting_who_has_a_token(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench))
    await office.lodge(*await received(bench, "quick"))
    service.gate.clear()
    service.reached.clear()
    slow = await received(bench, "slow")
    await office.receive(*slow)
    asking = asyncio.create_task(office.round())
    await asyncio.wait_for(service.reached.wait(), 30)
    rows = await received(bench, "quick", "slow")
    await office.receive(*rows)
    assert [(await bench.lodgment(row)).state for row in rows] == [State.AUTHORISED, State.PARKED]
    service.gate.set()
    await asking
    await office.settle()
    assert await states(bench, [*rows, *slow]) == {State.AUTHORISED}


async def test_two_workers_never_ask_for_one_key_at_the_same_time(bench: "Bench") -> None:
    service = Service(bench)
    one, two = Office(bench, service), Office(bench, service, worker="two")
    await one.receive(*await received(bench, *employers(12), *employers(12)))
    taken = [*await one.take(), *await two.take()]
    assert sorted(each.stored.key.second_party or "" for each in taken) == employers(12)
    assert (await one.take(), await two.take()) == ((), ())
    # A worker that dies with a key in hand loses it when its lease is over, and not earlier.
    bench.now += Timing().token_wait
    assert await two.take() == ()
    bench.now += timedelta(seconds=10)
    assert {each.stored.key_hash for each in await two.take()} <= {each.stored.key_hash for each in taken}


async def test_a_late_answer_does_not_take_the_place_of_the_next_worker(bench: "Bench") -> None:
    service = Service(bench)
    slow, quick = Office(bench, service), Office(bench, service, worker="quick")
    [row] = await received(bench, "a")
    await slow.receive(row)
    [late] = await slow.take()
    bench.now += timedelta(minutes=5)
    await quick.work()
    before = await quick.stored(row)
    bench.now += timedelta(seconds=1)
    await slow.desk.ask(late)
    assert await quick.stored(row) == before


async def test_a_request_never_outlasts_its_lease(bench: "Bench") -> None:
    bench.timing = Timing(token_wait=timedelta(milliseconds=50))
    office = Office(bench, service := Service(bench))
    service.gate.clear()
    [row] = await received(bench, "a")
    await office.receive(row)
    await office.round()
    assert service.under_way == 0
    stored = await office.stored(row)
    assert stored.failed is not None
    assert (stored.failed.code, await states(bench, [row])) == ("sts.timeout", {State.PARKED})


async def test_an_employers_refusal_holds_that_employer_alone(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench))
    service.answer = lambda key: UNREGISTERED if key.second_party == "bad" else None
    bad, good = await received(bench, "bad", "bad"), await received(bench, "good")
    await office.receive(*bad, *good)
    told = await office.work()
    assert (await states(bench, bad), await states(bench, good)) == ({State.HELD}, {State.AUTHORISED})
    assert len(told) == 3  # one goes on, and two producers are told
    more = await received(bench, "bad")
    await office.receive(*more)
    assert (await states(bench, more), len(service.asked)) == ({State.HELD}, 2)
    assert (await office.breaker()).state is BreakerState.CLOSED


async def test_a_wait_of_one_employer_grows_and_never_opens_the_breaker(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench, NO_CLAIMS))
    [row] = await received(bench, "a")
    await office.lodge(row)
    waits = []
    for _ in range(5):
        assert await office.round() == 0
        stored = await office.stored(row)
        assert stored.ask_at is not None
        waits.append(stored.ask_at - bench.now)
        bench.now = stored.ask_at
        assert await office.round() == 1
    assert waits == sorted(waits)
    assert waits[-1] > 4 * waits[0]
    assert (await office.breaker()).state is BreakerState.CLOSED
    service.answer = lambda _: None
    bench.now += timedelta(hours=1)
    await office.work()
    assert await states(bench, [row]) == {State.AUTHORISED}


async def test_a_revoked_credential_is_asked_about_once_for_five_thousand_employers(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench, REVOKED), slots=1)
    rows = await received(bench, *employers(1200))
    other = await received(bench, "employer-00000", credential="another")
    for start in range(0, len(rows), 300):
        await office.receive(*rows[start : start + 300])
    service.answer = lambda key: REVOKED if key.credential == "one" else None
    await office.receive(*other)
    await office.work()
    assert await states(bench, rows[:3] + rows[-3:]) == {State.HELD}
    assert await reasons(bench, rows[:3] + rows[-3:]) == {"E2014"}
    assert await states(bench, other) == {State.AUTHORISED}
    assert [key.credential for key in service.asked].count("one") == 1
    later = await received(bench, "employer-00001", "never seen")
    await office.lodge(*later)
    assert await states(bench, later) == {State.HELD}
    assert len(service.asked) == 2
    assert (await office.breaker()).state is BreakerState.CLOSED


async def test_what_an_operator_releases_of_a_refused_credential_asks_once(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench, REVOKED), slots=1)
    rows = await received(bench, *employers(40))
    await office.lodge(*rows)
    assert await states(bench, rows) == {State.HELD}

    async def release() -> None:
        for row in rows:
            held = await bench.lodgment(row)
            reason = Reason(OPERATOR_RELEASED, "Mended.")
            await bench.moved(held, held.moved(State.RECEIVED, due_at=bench.now, reason=reason))
        office.slots = 8
        await office.lodge(*rows)

    await release()
    assert (await states(bench, rows), len(service.asked)) == ({State.HELD}, 2)
    service.answer = lambda _: None
    await release()
    assert await states(bench, rows) == {State.AUTHORISED}
    assert len(service.asked) == 2 + 40
    assert (await office.credential("one")).state is BreakerState.CLOSED


async def test_new_demand_probes_a_refused_credential_ever_more_rarely(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench, REVOKED))
    await office.lodge(*await received(bench, "a"))
    for _ in range(240):
        bench.now += MINUTE
        rows = await received(bench, "b")
        await office.lodge(*rows)
        assert await states(bench, rows) == {State.HELD}
    assert len(service.asked) <= 12


async def test_a_token_that_the_agency_refused_is_replaced_at_once(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench))
    [row] = await received(bench, "a")
    await office.lodge(row)
    authorised = await bench.lodgment(row)
    assert authorised.token_key is not None
    assert authorised.token_expires_at is not None
    async with bench.ledger.transaction() as tx:
        await tokens.discard(tx, authorised.token_key, authorised.token_expires_at)
    again = await received(bench, "a", "a")
    await office.lodge(*again)
    assert await states(bench, again) == {State.AUTHORISED}
    assert len(service.asked) == 2


async def test_an_outage_is_seen_by_a_few_requests_and_costs_nobody_an_attempt(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench, DOWN), slots=4)
    rows = await received(bench, *employers(50))
    await office.lodge(*rows)
    opened = await office.breaker()
    assert opened.cause is not None
    assert (opened.state, opened.cause.code, opened.cause.who) == (BreakerState.OPEN, "E1003", Party.AGENCY)
    assert (opened.opened_at, len(service.asked)) == (bench.now, 4)
    late = await received(bench, "late")
    await office.lodge(*late)
    assert (await states(bench, rows + late), len(service.asked)) == ({State.PARKED}, 4)
    reason = (await bench.lodgment(late[0])).reason
    assert reason is not None
    assert "E1003" in reason.text
    assert {(await bench.lodgment(row)).tally.failures for row in rows} == {0}


async def test_an_outage_of_an_hour_is_probed_by_one_request_at_a_time_and_closes_gently(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench, DOWN), slots=500)
    rows = await received(bench, *employers(300))
    await office.receive(*rows[:4])
    await office.work()
    await office.receive(*rows)
    asked = len(service.asked)
    end = bench.now + timedelta(hours=1)
    while bench.now < end:
        bench.now += timedelta(seconds=5)
        assert await office.round() <= 1
    probes = len(service.asked) - asked
    assert 10 <= probes <= 25
    opened = await office.breaker()
    assert (opened.state, opened.opened_at) == (BreakerState.OPEN, end - timedelta(hours=1))
    service.answer = lambda _: None
    steps = []
    while await states(bench, rows) != {State.AUTHORISED}:
        steps.append(await office.round())
        await office.settle()
        bench.now += timedelta(seconds=2)
        assert len(steps) < 400
    begun = [count for count in steps if count]
    assert begun[:3] == [1, 10, 100]
    assert sum(begun) == 300
    assert (await office.breaker()).state is BreakerState.CLOSED


async def test_a_service_that_falls_again_while_it_ramps_is_left_alone_again(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench, DOWN), slots=500)
    await office.lodge(*await received(bench, *employers(100)))
    service.answer = lambda _: None
    bench.now += timedelta(minutes=1)
    assert await office.round() == 1
    service.answer = lambda _: DOWN
    assert await office.round() == 10
    assert (await office.breaker()).state is BreakerState.OPEN
    assert await office.round() == 0


async def test_a_probe_whose_worker_dies_is_followed_by_another(bench: "Bench") -> None:
    office = Office(bench, Service(bench, DOWN))
    await office.lodge(*await received(bench, *employers(5)))
    bench.now += timedelta(minutes=1)
    assert len(await office.take()) == 1
    assert len(await office.take()) == 0
    bench.now += timedelta(seconds=71)
    assert len(await office.take()) == 1


async def test_all_workers_share_one_rate_and_one_limit_of_requests_under_way(bench: "Bench") -> None:
    service, budget = Service(bench), Budget(rate=5, concurrency=8)
    offices = [Office(bench, service, worker=f"worker-{n}", budget=budget, slots=20) for n in range(4)]
    await offices[0].receive(*await received(bench, *employers(60)))
    taken = [await office.take() for office in offices]
    assert sum(map(len, taken)) == 5
    bench.now += timedelta(seconds=1)
    assert sum([len(await office.take()) for office in offices]) == 3
    await asyncio.gather(*(offices[0].desk.ask(one) for one in taken[0]))
    bench.now += timedelta(seconds=0.4)
    assert sum([len(await office.take()) for office in offices]) == 4
    bench.now += timedelta(hours=1)
    assert sum([len(await office.take()) for office in offices]) == 5


async def test_a_renewal_waits_for_its_time_and_for_demand(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench))
    used, unused = await received(bench, "used", "unused")
    await office.lodge(used, unused)
    end = bench.now + timedelta(hours=2)
    while bench.now < end:
        bench.now += MINUTE
        more = await received(bench, "used")
        await office.receive(*more)
        assert await states(bench, more) == {State.AUTHORISED}, "a renewal must be ahead of expiry"
        await office.work()
    renewed, idle = await office.stored(used), await office.stored(unused)
    assert 4 <= renewed.renewals <= 12
    assert (idle.renewals, idle.ask_at) == (0, None)
    assert len(service.asked) == 2 + renewed.renewals


async def test_demand_that_comes_back_before_expiry_renews_what_had_lapsed(bench: "Bench") -> None:
    office = Office(bench, Service(bench))
    [row] = await received(bench, "a")
    await office.lodge(row)
    expires_at = (await office.stored(row)).expires_at
    bench.now += timedelta(minutes=25)
    await office.work()
    assert (await office.stored(row)).expires_at == expires_at
    await office.lodge(*await received(bench, "a"))
    assert (await office.stored(row)).expires_at == bench.now + timedelta(minutes=30)


async def test_tokens_fetched_in_one_minute_are_not_renewed_in_one_minute(bench: "Bench") -> None:
    office = Office(bench, Service(bench), slots=1000)
    rows = await received(bench, *employers(300))
    await office.lodge(*rows)
    times = [(await office.stored(row)).ask_at for row in rows[::3]]
    minutes = [int((at - bench.now) / MINUTE) for at in times if at is not None]
    assert len(minutes) == 100
    assert max(minutes.count(minute) for minute in set(minutes)) < 30
    assert max(minutes) - min(minutes) >= 7


async def test_first_requests_go_before_renewals(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench), slots=4)
    old = employers(10)
    await office.lodge(*await received(bench, *old))
    bench.now += timedelta(minutes=24)
    async with bench.ledger.transaction() as tx:
        hashes = [one.hash() for one in service.asked]
        await tokens.touch(tx, hashes, bench.now)
    service.asked.clear()
    await office.receive(*await received(bench, *(f"new-{n}" for n in range(6))))
    await office.work()
    assert {key.second_party for key in service.asked[:6]} == {f"new-{n}" for n in range(6)}
    assert len(service.asked) == 16


async def test_lodgments_with_a_time_find_their_tokens_fresh(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench))
    start = bench.now + timedelta(hours=3)
    parked = []
    for abn in employers(5):
        row = replace(a_lodgment(bench.now), party_abn=abn)
        reason = Reason(NOT_BEFORE, "Waits.")
        parked.append(row.moved(State.PARKED, due_at=start, resume=State.RECEIVED, reason=reason))
    await bench.add(*parked)
    assert not await office.desk.look_ahead()
    assert await office.round() == 0
    bench.now = start - timedelta(minutes=9)
    assert not await office.desk.look_ahead()
    assert await office.work() == []
    assert len(service.asked) == 5
    assert await states(bench, parked) == {State.PARKED}
    assert not await office.desk.look_ahead()
    assert await office.round() == 0
    bench.now = start
    rows = [await bench.lodgment(row) for row in parked]
    woken = [await bench.moved(row, row.moved(State.RECEIVED, due_at=start)) for row in rows]
    await office.receive(*woken)
    assert await states(bench, parked) == {State.AUTHORISED}
    assert len(service.asked) == 5


async def test_a_clock_that_steps_back_neither_revives_an_expired_token_nor_blocks_the_next(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench))
    [row] = await received(bench, "a")
    await office.lodge(row)
    old = await office.stored(row)
    assert old.expires_at is not None
    bench.now = old.expires_at - timedelta(minutes=5)
    await office.lodge(*await received(bench, "a"))  # in use to its last minutes
    service.asked.clear()
    service.answer = lambda _: DOWN
    bench.now = old.expires_at + MINUTE
    await office.lodge(*await received(bench, "a"))
    bench.now = old.expires_at - timedelta(minutes=25)
    rows = await received(bench, "a")
    await office.receive(*rows)
    assert await states(bench, rows) == {State.PARKED}
    service.answer = lambda _: None
    await office.work()
    assert await states(bench, rows) == {State.AUTHORISED}
    assert (await office.stored(row)).expires_at == bench.now + timedelta(minutes=30)


async def test_a_lease_and_a_retry_of_a_clock_that_was_ahead_hold_nobody_up(bench: "Bench") -> None:
    office = Office(bench, service := Service(bench, NO_CLAIMS))
    ahead = bench.now
    failing, leased = await received(bench, "failing", "leased")
    await office.lodge(failing)
    await office.receive(leased)
    assert len(await office.take()) == 1
    bench.now = ahead - timedelta(hours=6)
    service.answer = lambda _: None
    restarted = Office(bench, service, worker="restarted")
    await restarted.work()
    assert await states(bench, [failing, leased]) == {State.AUTHORISED}


async def test_what_was_not_told_because_a_worker_died_is_told_by_another(bench: "Bench") -> None:
    service = Service(bench)
    dead, other = Office(bench, service), Office(bench, service, worker="other")
    rows = await received(bench, *employers(3))
    await dead.receive(*rows)
    await dead.round()
    assert len(await other.settle()) == 3
    assert await dead.settle() == []


async def test_more_than_a_portion_of_waiting_lodgments_is_told_in_portions(bench: "Bench") -> None:
    office = Office(bench, Service(bench))
    rows = await received(bench, *["a"] * 1100)
    for start in range(0, len(rows), 300):
        await office.receive(*rows[start : start + 300])
    await office.round()
    assert [len(await office.desk.settle()) for _ in range(4)] == [500, 500, 100, 0]


async def test_a_token_that_came_in_the_same_instant_is_not_asked_for_again(bench: "Bench") -> None:
    """Two workers, and the answer is stored after one of them has looked and before it puts the key into the queue."""
    office = Office(bench, service := Service(bench))
    [row] = await received(bench, "a")
    await office.lodge(row)
    before = await office.stored(row)
    async with bench.ledger.transaction() as tx:
        wanted = [Wanted(before.key, at_once=True)]
        await token_queue.want(tx, wanted, bench.now, bench.now + Timing().token_margin)
    assert await office.stored(row) == before
    assert (await office.round(), len(service.asked)) == (0, 1)


async def test_a_defect_holds_what_met_it_and_nothing_else(bench: "Bench") -> None:
    office = Office(bench, Service(bench))
    bad, good = await received(bench, "bad", "good")
    await office.receive(bad, good)
    for taken in await office.take():
        if taken.stored.key.second_party == "bad":
            await office.desk.give_up(taken, "defect.KeyError")
        else:
            await office.desk.ask(taken)
    await office.settle()
    assert (await states(bench, [bad]), await reasons(bench, [bad])) == ({State.HELD}, {"defect.KeyError"})
    assert await states(bench, [good]) == {State.AUTHORISED}


async def test_a_token_that_is_over_is_wiped_when_the_next_is_wanted(bench: "Bench") -> None:
    office = Office(bench, Service(bench))
    [row] = await received(bench, "a")
    await office.lodge(row)
    bench.now += timedelta(hours=1)
    await office.receive(*await received(bench, "a"))
    stored = await office.stored(row)
    assert (stored.token, stored.state) == (None, TokenState.REQUESTED)


@pytest.mark.parametrize("difference", ["environment", "credential", "applies_to", "claims", "key_size"])
def test_whatever_makes_tokens_differ_makes_their_keys_differ(difference: str) -> None:
    channel = make_channel()
    assert isinstance(channel, AsicBusinessNames)
    key = channel.token_key(a_lodgment())
    assert key is not None
    changed: object = {"claims": (), "key_size": 256}.get(difference, "another")
    assert replace(key, **{difference: changed}).hash() != key.hash()  # type: ignore[arg-type]  # one field by name
