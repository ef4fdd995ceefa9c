"""The doors of agencies: an outage is one event, costs no attempt and few requests, and ends gently."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from pipeline.ledger import attempts, channel_states, doors
from pipeline.lodgment.breaker import BreakerPolicy, BreakerScope, BreakerState
from pipeline.lodgment.decisions import Closedown, RetryPolicy
from pipeline.lodgment.doors import BreakerPolicies, Door, stopped
from pipeline.lodgment.lodgment import BREAKER_OPEN, CLOSEDOWN
from pipeline.lodgment.states import State
from pipeline.stages.doors import Answer, Doors
from pipeline.stages.watch import Watch
from tests.doubles.asic import make_basic_channel
from tests.doubles.lodgments import NOW
from tests.doubles.moody_agency import REFUSED, SILENT
from tests.integration.stages.street import DOOR, Street

if TYPE_CHECKING:
    from pipeline.channels.asic_bn import AsicBusinessNames
    from pipeline.lodgment.failures import Failure
    from tests.integration.stages.conftest import Bench

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
QUICK = BreakerPolicies(BreakerPolicy(ramp=(3, 10), ramp_answered=0.5))


@pytest.mark.parametrize("mood", [503, REFUSED, SILENT], ids=["http-503", "refused", "silent"])
async def test_an_outage_closes_the_door_once_parks_who_comes_and_costs_no_attempt(
    bench: "Bench", mood: "int | Failure"
) -> None:
    street = Street(bench, batch=8)
    street.agency.mood = mood
    first = await street.sealed(8)
    with capture_logs() as logs:
        await street.work()
        late = await street.sealed(12)
        await street.work()
    assert [entry["log_level"] for entry in logs if entry["event"] == "breaker.opened"] == ["error"]
    assert sum(street.agency.seen.values()) == len(first)
    assert await street.states(late) == {State.PARKED: 12}
    assert (await street.breaker()).state is BreakerState.OPEN
    for row in late:
        found = await bench.lodgment(row)
        assert found.reason is not None
        assert (found.reason.code, found.attempts, found.tally) == (BREAKER_OPEN, 0, row.tally)
        async with bench.ledger.transaction(read_only=True) as tx:
            assert await attempts.of(tx, row.id) == []
    if mood is not SILENT:
        assert {(await bench.lodgment(row)).tally.failures for row in first} == {0}
    waiting = first + late if mood is not SILENT else late
    assert len([message for message in street.told if b"breaker.open" in message.body]) == len(waiting)


async def test_an_hour_of_outage_is_a_few_requests_and_then_everything_is_processed_once(bench: "Bench") -> None:
    """Two processes of each kind, a compressed clock: the requests are counted in the agency's book."""
    street = Street(bench, QUICK, batch=10)
    rows = await street.sealed(40)
    street.agency.mood = 503
    await street.live(timedelta(hours=1), MINUTE)
    asked = list(street.agency.asked_at)
    assert sum(street.agency.processed.values()) == 0
    assert len(asked) <= 20 + 20, "eight in a row and what was under way, then a probe at least every six minutes"
    probes = asked[20:]
    assert all(later > earlier for earlier, later in pairwise(probes)), "one at a time, over both processes"
    assert all(later - earlier <= 7 * MINUTE for earlier, later in pairwise(probes))
    street.agency.mood = None
    await street.live(8 * MINUTE, 15 * SECOND)
    assert await street.states(rows) == {State.ACCEPTED: 40}
    assert set(street.agency.processed.values()) == {1}
    assert {(await bench.lodgment(row)).tally.failures for row in rows} == {0}
    assert (await street.breaker()).state is BreakerState.CLOSED


async def test_the_door_opens_by_one_then_three_then_ten_then_all(bench: "Bench") -> None:
    street = Street(bench, QUICK)
    street.agency.mood = 503
    await street.sealed(8)
    await street.work()
    await street.sealed(40)
    await street.work()
    street.agency.mood = None
    street.agency.seen.clear()
    bench.now += 10 * SECOND
    steps = []
    for _ in range(8):
        before = sum(street.agency.seen.values())
        await street.schedule()
        await street.work()
        steps.append(sum(street.agency.seen.values()) - before)
        bench.now += 3 * SECOND
    assert steps[:3] == [1, 3, 10]
    assert max(steps[3:]) > 10
    assert sum(steps) == 48


async def test_the_least_slack_goes_first_when_the_door_opens(bench: "Bench") -> None:
    street = Street(bench, QUICK)
    street.agency.mood = 503
    await street.sealed(8)
    await street.work()
    today = NOW.date()
    await street.sealed(5)
    late = [(await street.sealed(1, due_date=today + timedelta(days=days)))[0] for days in (9, 2, 5)]
    await street.work()
    street.agency.mood = None
    street.agency.seen.clear()
    bench.now += 10 * SECOND
    for _ in range(2):
        await street.schedule()
        await street.work()
        bench.now += 3 * SECOND
    order = list(street.agency.seen)
    assert order[:3] == [late[1].reference, late[2].reference, late[0].reference]


async def test_an_announced_return_is_waited_for(bench: "Bench") -> None:
    street = Street(bench)
    street.agency.mood = NOW + timedelta(hours=3)
    await street.sealed(8)
    await street.work()
    breaker = await street.breaker()
    assert breaker.cause is not None
    assert breaker.cause.code == "asic:FAULT.UNAVAILABLE"
    assert breaker.probe_at is not None
    assert NOW + timedelta(hours=3) <= breaker.probe_at <= NOW + timedelta(hours=3, seconds=30)
    await street.sealed(5)
    await street.work()
    await street.live(timedelta(hours=2, minutes=50), 10 * MINUTE)
    assert len(street.agency.asked_at) == 8


async def test_a_canary_that_fails_makes_the_next_one_wait_longer(bench: "Bench") -> None:
    street = Street(bench)
    street.agency.mood = 503
    await street.sealed(8)
    await street.work()
    await street.sealed(20)
    await street.work()
    waits = []
    for _ in range(4):
        breaker = await street.breaker()
        assert breaker.probe_at is not None
        waits.append(breaker.probe_at - bench.now)
        bench.now = breaker.probe_at
        asked = len(street.agency.asked_at)
        await street.schedule()
        await street.work()
        assert len(street.agency.asked_at) > asked
    assert waits == sorted(waits)
    assert waits[-1] > 4 * waits[0]


async def test_what_was_under_way_when_the_door_closed_does_not_close_it_again(bench: "Bench") -> None:
    """A crowd of time-outs comes in minutes after the agency has returned."""
    street = Street(bench, QUICK)
    street.agency.mood = 503
    await street.sealed(8)
    hanging = [await bench.sent(await bench.sealed(), None) for _ in range(10)]
    bench.now += SECOND
    await street.work()
    assert (await street.breaker()).state is BreakerState.OPEN
    street.agency.mood = None
    await street.sealed(5)
    await street.work()
    bench.now += 10 * SECOND
    await street.schedule()
    await street.work()
    assert (await street.breaker()).state is BreakerState.RAMPING
    seen = Doors(street.context("one"))
    await seen.heard([Answer(row, Door.named(DOOR), SILENT, attempt.started_at) for row, attempt in hanging])
    assert (await street.breaker()).state is BreakerState.RAMPING


async def test_one_failure_among_many_answers_leaves_the_door_open(bench: "Bench") -> None:
    street = Street(bench, batch=1)
    for number in range(24):
        street.agency.mood = 503 if number % 4 == 0 else None
        await street.sealed(1)
        await street.work()
        bench.now += timedelta(milliseconds=300)
    assert (await street.breaker()).state is BreakerState.CLOSED


async def test_while_all_is_well_nothing_is_written_about_doors(bench: "Bench") -> None:
    street = Street(bench)
    rows = await street.sealed(20)
    await street.work()
    assert await street.states(rows) == {State.ACCEPTED: 20}
    async with bench.ledger.transaction(read_only=True) as tx:
        assert await channel_states.every(tx, BreakerScope.CHANNEL) == {}


async def test_a_person_stops_a_channel_and_everything_waits_until_the_person_says_so(bench: "Bench") -> None:
    street = Street(bench, QUICK)
    async with bench.ledger.transaction() as tx:
        before = await channel_states.lock(tx, BreakerScope.CHANNEL, "asic_bn")
        closed = stopped(before, bench.now, "a wrong address", None)
        await channel_states.write(tx, BreakerScope.CHANNEL, "asic_bn", closed)
    rows = await street.sealed(10)
    await street.live(timedelta(hours=3), 10 * MINUTE)
    assert street.agency.asked_at == []
    assert await street.states(rows) == {State.PARKED: 10}
    async with bench.ledger.transaction() as tx:
        [crowd] = await doors.crowds(tx)
        assert (crowd.door.name, crowd.count) == (DOOR, 10)
        locked = await channel_states.lock(tx, BreakerScope.CHANNEL, "asic_bn")
        await channel_states.write(tx, BreakerScope.CHANNEL, "asic_bn", replace(locked, probe_at=bench.now))
    await street.live(MINUTE, 3 * SECOND)
    assert await street.states(rows) == {State.ACCEPTED: 10}
    assert (await street.breaker("asic_bn")).state is BreakerState.CLOSED


async def test_a_canary_that_never_comes_back_is_followed_by_another(bench: "Bench") -> None:
    street = Street(bench)
    street.agency.mood = 503
    await street.sealed(8)
    await street.work()
    await street.sealed(5)
    await street.work()
    street.agency.mood = None
    bench.now += 10 * SECOND
    await street.schedule()
    street.queues = {step: type(queue)() for step, queue in street.queues.items()}
    lost = (await street.breaker()).canary_id
    assert lost is not None
    bench.now += street.breakers.usual.probe_patience + SECOND
    await street.schedule()
    assert (await street.breaker()).canary_id not in {None, lost}
    await street.work()
    assert (await street.breaker()).state is BreakerState.RAMPING


async def test_the_metrics_show_the_door_and_who_waits(bench: "Bench") -> None:
    street = Street(bench)
    street.agency.mood = 503
    await street.sealed(8)
    await street.work()
    await street.sealed(3)
    await street.work()
    context = street.context("shown")
    await Watch(context, context.metrics, 100).count()
    shown = generate_latest(context.metrics.registry).decode()
    assert f'lodge_breaker_waiting{{name="{DOOR}"}} 11.0' in shown


async def test_whoever_is_let_through_is_not_turned_back_by_what_a_process_read_a_moment_ago(bench: "Bench") -> None:
    """Canary and ramp follow each other within the second for which a process goes by what it knows."""
    street = Street(bench, QUICK)
    street.agency.mood = 503
    await street.sealed(8)
    await street.work()
    await street.sealed(20)
    await street.work()
    bench.now += 10 * SECOND
    street.agency.mood = None
    steps = []
    for _ in range(3):
        before = sum(street.agency.seen.values())
        await street.sealed(1)  # the other process looks too, and then knows what is so now
        await street.schedule()
        await street.work()
        steps.append(sum(street.agency.seen.values()) - before)
    assert steps[0] == 1
    assert steps[1] == 3


async def test_who_was_held_up_on_the_way_does_not_hold_up_the_ramp(bench: "Bench") -> None:
    street = Street(bench, QUICK)
    street.agency.mood = 503
    await street.sealed(8)
    await street.work()
    await street.sealed(20)
    await street.work()
    street.agency.mood = None
    bench.now += 10 * SECOND
    await street.schedule()
    await street.work()
    assert await street.schedule() >= 3
    street.queues = {step: type(queue)() for step, queue in street.queues.items()}
    assert await street.schedule() == 0
    bench.now += 4 * SECOND
    assert await street.schedule() >= 3


class _ClosedDown:
    """A channel whose calendar has a day on which it takes nothing."""

    def __init__(self, channel: "AsicBusinessNames", policy: RetryPolicy) -> None:
        self._channel, self._policy = channel, policy

    def __getattr__(self, name: str) -> object:
        return getattr(self._channel, name)

    def policy(self, service: str, action: str) -> RetryPolicy:
        del service, action
        return self._policy


async def test_the_calendar_parks_before_anything_is_sent_and_the_crowd_spreads_when_it_ends(bench: "Bench") -> None:
    end = NOW + timedelta(hours=6)
    policy = RetryPolicy(closedowns=(Closedown(NOW - MINUTE, end, takes_documents=False),))
    bench.channel = _ClosedDown(make_basic_channel(), policy)  # type: ignore[assignment]  # a channel but for its policy
    street = Street(bench)
    rows = await street.sealed(4)
    await street.work()
    assert street.agency.asked_at == []
    for row in rows:
        found = await bench.lodgment(row)
        assert found.reason is not None
        assert found.due_at is not None
        assert (found.state, found.reason.code) == (State.PARKED, CLOSEDOWN)
        assert end <= found.due_at <= end + policy.poll.cap
    bench.now = end + policy.poll.cap
    await street.live(2 * SECOND)
    assert await street.states(rows) == {State.ACCEPTED: 4}
