"""The law by which a replay gives way: what slows it, what chance explains, and where it settles."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lodgment.replay_pace import LEARNING, Leg, Level, LiveTimes, Pace, PacePolicy, begun, looked, slowed
from tests.doubles.lodgments import NOW

POLICY = PacePolicy()
RATE = 100.0
SECOND = timedelta(seconds=1)


def times(seconds: Sequence[float], leg: Leg = Leg.FINAL) -> LiveTimes:
    return {leg: list(seconds)}


def spread(number: int, longest: float = 1.0) -> list[float]:
    """Evenly from nearly nothing to the longest."""
    return [longest * (place + 1) / number for place in range(number)]


def running(speed: float, levels_of: Sequence[float] = tuple(spread(1000)), leg: Leg = Leg.FINAL) -> Pace:
    return replace(begun(RATE, times(levels_of, leg), NOW, POLICY), speed=speed)


LATER = NOW + timedelta(minutes=1)


def look(pace: Pace, live: LiveTimes, now: datetime = LATER, *, busy: bool = True) -> Pace:
    return looked(pace, RATE, live, now, POLICY, busy=busy)


def test_it_begins_slowly_and_knows_what_a_tenth_and_a_hundredth_exceeded_before() -> None:
    pace = begun(RATE, {Leg.SENT: [], Leg.FINAL: spread(1000)}, NOW, POLICY)
    assert pace.speed == RATE * POLICY.first
    assert [(round(one.seconds, 3), one.of) for one in pace.levels[Leg.FINAL]] == [(0.9, 1000), (0.99, 1000)]
    assert Leg.SENT not in pace.levels


@pytest.mark.parametrize("rate", [0.01, 0.5, 5.0])
def test_it_never_goes_faster_than_its_rate_however_low_that_is(rate: float) -> None:
    pace = begun(rate, {}, NOW, POLICY)
    for number in range(200):
        assert pace.speed <= rate
        pace = looked(pace, rate, {}, NOW + number * SECOND, POLICY, busy=True)
    assert pace.speed == rate


@pytest.mark.parametrize("leg", list(Leg))
def test_when_live_work_becomes_slower_it_goes_half_as_fast_and_says_why(leg: Leg) -> None:
    after = look(running(80, leg=leg), times(spread(200, longest=1.4), leg))
    assert (after.speed, after.since) == (40, LATER)
    assert after.why is not None
    assert f"live lodgments took more than 0.99 s to be {leg}; 10% before took 0.90 s or more" in after.why


def test_a_few_very_slow_ones_are_seen_though_the_rest_is_as_before() -> None:
    assert look(running(80), times([*spread(291), *[5.0] * 9])).speed == 40


def test_a_tenth_more_than_before_is_not_slower() -> None:
    assert look(running(80), times(spread(1000, longest=1.1))).speed > 80


@pytest.mark.parametrize("live", [[5.0], [5.0, 5.0], []])
def test_of_so_few_nothing_is_told(live: list[float]) -> None:
    assert look(running(80), times(live)).speed > 80


def test_after_it_became_slower_it_waits_then_becomes_faster_and_near_what_was_too_fast_with_care() -> None:
    pace = look(running(80), times(spread(200, longest=3)))
    calm = times(spread(200))
    assert look(pace, calm, LATER + POLICY.settle - SECOND).speed == 40
    seconds = 0
    while pace.speed < RATE:
        before, pace = pace.speed, look(pace, calm, LATER + POLICY.settle)
        raised = POLICY.raise_by * (POLICY.care if before >= POLICY.near * 80 else 1)
        assert pace.speed == pytest.approx(min(RATE, before * (1 + raised)))
        assert (pace.why is None) == (pace.speed == RATE), "until then it is slower than it might be"
        seconds += 1
    assert seconds > 120


def test_while_nothing_of_it_is_on_its_way_a_calm_look_tells_nothing() -> None:
    assert look(running(80), times(spread(200)), busy=False).speed == 80


def test_where_the_least_speed_does_not_help_it_learns_what_live_work_takes_now() -> None:
    slow = times(spread(200, longest=3))
    pace = look(running(POLICY.least), slow)
    assert (pace.speed, pace.why) == (POLICY.least, LEARNING)
    now = LATER + POLICY.learn_for
    assert look(pace, slow, now - SECOND).resume is not None
    pace = look(pace, slow, now)
    assert (pace.resume, pace.levels_at) == (None, now)
    assert look(pace, slow, now + POLICY.settle).speed > POLICY.least


def test_a_level_grows_old_and_is_learned_again_at_the_least_speed() -> None:
    now = NOW + POLICY.level_for
    pace = look(running(80), times(spread(200)), now)
    assert (pace.speed, pace.resume) == (POLICY.least, 80)
    pace = look(pace, times(spread(POLICY.plenty)), now + SECOND)
    assert (pace.speed, pace.resume, pace.levels_at) == (80, None, now + SECOND)


def test_without_live_work_it_is_not_kept_from_its_rate_and_learns_when_there_is_some() -> None:
    pace = begun(RATE, {}, NOW, POLICY)
    for number in range(180):
        pace = look(pace, {}, NOW + number * SECOND)
    assert pace.speed == RATE
    pace = look(pace, times(spread(POLICY.enough)))
    assert (pace.speed, pace.resume) == (POLICY.least, RATE)


def test_when_live_work_ends_while_it_learns_it_goes_on() -> None:
    pace = look(running(80), times(spread(200)), NOW + POLICY.level_for)
    pace = look(pace, {}, NOW + POLICY.level_for + POLICY.learn_for)
    assert (pace.speed, pace.levels) == (80, {})


@given(st.lists(st.floats(0.001, 10), max_size=200), st.floats(0.01, 1000), st.booleans())
def test_its_speed_stays_between_the_least_and_the_rate(live: list[float], speed: float, busy: bool) -> None:
    pace = look(running(min(RATE, max(POLICY.least, speed))), times(live), busy=busy)
    assert POLICY.least <= pace.speed <= RATE


LIVE_RATE = 20
"""Live lodgments a second in what is simulated."""


def simulated(slowness: Callable[[float], float], minutes: int, seed: int) -> tuple[list[float], list[float]]:
    """A replay beside live work whose times are multiplied by what its speed makes of them: the speeds by second, and
    what live lodgments took.
    """
    chance = random.Random(seed)  # noqa: S311  - repeatable
    live: list[tuple[datetime, float]] = []
    before = [chance.lognormvariate(-1.5, 0.3) for _ in range(1000)]
    pace = begun(RATE, times(before), NOW, POLICY)
    speeds = []
    for second in range(60 * minutes):
        now = NOW + second * SECOND
        speeds.append(pace.speed)
        live += [(now, chance.lognormvariate(-1.5, 0.3) * slowness(pace.speed)) for _ in range(LIVE_RATE)]
        since = max(pace.since, now - POLICY.window)
        recent = [took for at, took in live[-POLICY.most :] if at >= since]
        pace = look(pace, times(recent), now + SECOND)
    return speeds, [took for _, took in live]


def hundredth(seconds: Sequence[float]) -> float:
    return sorted(seconds)[-max(1, len(seconds) // 100)]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("bears", [10, 30, 60])
def test_where_live_work_bears_so_much_and_no_more_it_keeps_its_pace_within_a_fifth(seed: int, bears: float) -> None:
    """Beyond what the machine bears, live work takes longer in proportion."""
    _, took = simulated(lambda speed: max(1.0, speed / bears), 15, seed)
    _, alone = simulated(lambda _: 1.0, 15, seed)
    assert hundredth(took) < 1.2 * hundredth(alone)
    _, let_loose = simulated(lambda _: RATE / bears, 15, seed)
    assert hundredth(let_loose) > 1.5 * hundredth(alone), "or the law has nothing to do here"


@pytest.mark.parametrize("seed", [1, 2])
def test_where_live_work_feels_nothing_it_goes_nearly_as_fast_as_it_may(seed: int) -> None:
    speeds, _ = simulated(lambda _: 1.0, 15, seed)
    assert sum(speeds) / len(speeds) > 0.8 * RATE


@pytest.mark.parametrize("seed", [1, 2])
def test_live_work_that_became_slower_for_another_cause_does_not_hold_it_up_for_long(seed: int) -> None:
    speeds, _ = simulated(lambda _: 2.0, 10, seed)
    assert sum(speeds[300:]) / len(speeds[300:]) > 0.5 * RATE


def test_a_level_that_is_known_from_few_lodgments_explains_more() -> None:
    live = times([*[0.1] * 95, *[5.0] * 5])
    assert slowed(live, {Leg.FINAL: (Level(0.01, 1.0, 1000),)}, POLICY) is not None
    assert slowed(live, {Leg.FINAL: (Level(0.01, 1.0, 20),)}, POLICY) is None
