"""The breaker as a value: whatever comes in whatever order, it keeps to its budget and lets one probe through."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.lodgment.breaker import (
    Breaker,
    BreakerPolicy,
    BreakerState,
    Budget,
    admit,
    answered,
    closed,
    opened,
    spent,
)
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from tests.doubles.lodgments import NOW

POLICY = BreakerPolicy()
BUDGET = Budget(rate=10, concurrency=16)
DOWN = Failure(FailureClass.UNAVAILABLE, "E1003", "", "It is away.", Party.AGENCY, Blast.CHANNEL)


def after(*answers: bool, every: float = 0.0) -> Breaker:
    """A closed breaker after answers, True for a good one."""
    breaker = Breaker()
    for number, good in enumerate(answers):
        now = NOW + timedelta(seconds=number * every)
        breaker = answered(breaker, POLICY, now, None if good else DOWN, 0.0)
    return breaker


def test_opens_after_eight_failures_in_a_row_and_not_after_seven() -> None:
    assert after(*[False] * 7).state is BreakerState.CLOSED
    broken = after(*[False] * 8)
    assert broken.state is BreakerState.OPEN
    assert broken.cause is not None
    assert (broken.cause.code, broken.opened_at) == ("E1003", NOW)
    assert broken.probe_at == NOW + timedelta(seconds=5)


def test_opens_when_half_of_twenty_answers_within_a_minute_are_failures() -> None:
    assert after(*[True, False] * 10).state is BreakerState.OPEN
    assert after(*[True, True, False] * 20).state is BreakerState.CLOSED
    assert after(*[True, False] * 20, every=10).state is BreakerState.CLOSED


def test_waits_for_the_time_that_the_service_announced_unless_it_is_absurd() -> None:
    announced = replace(DOWN, available_after=NOW + timedelta(hours=3))
    assert opened(Breaker(), POLICY, NOW, announced, 0.0).probe_at == NOW + timedelta(hours=3)
    for absurd in (NOW - timedelta(hours=3), NOW + timedelta(days=400)):
        told = replace(DOWN, available_after=absurd)
        assert opened(Breaker(), POLICY, NOW, told, 0.0).probe_at == NOW + timedelta(seconds=5)


def test_probes_ever_more_rarely_and_at_least_every_six_minutes() -> None:
    breaker, waits, now = Breaker(), [], NOW
    for _ in range(12):
        breaker = opened(breaker, POLICY, now, DOWN, 0.99)
        assert breaker.probe_at is not None
        waits.append(breaker.probe_at - now)
        now = breaker.probe_at
    assert waits == sorted(waits)
    assert waits[-1] <= timedelta(minutes=6)
    assert breaker.opened_at == NOW


def test_a_late_good_answer_does_not_close_what_has_opened_since() -> None:
    broken = after(*[False] * 8)
    assert answered(broken, POLICY, NOW, None, 0.0).state is BreakerState.OPEN


def test_a_clock_that_stepped_back_does_not_put_off_the_probe() -> None:
    broken = after(*[False] * 8)
    assert admit(broken, POLICY, BUDGET, NOW + timedelta(seconds=4), 0).count == 0
    assert admit(broken, POLICY, BUDGET, NOW - timedelta(hours=5), 0).count == 1


def test_closing_forgets_everything_but_what_was_spent() -> None:
    broken = replace(after(*[False] * 8), allowance=3.0, allowed_at=NOW)
    assert closed(broken) == Breaker(allowance=3.0, allowed_at=NOW)


_STEPS = st.lists(
    st.tuples(st.sampled_from(("ask", "good", "bad")), st.floats(0, 30), st.integers(1, 40)), min_size=1, max_size=80
)


@given(_STEPS)
def test_never_asks_beyond_rate_and_concurrency_and_while_open_for_one_probe_only(
    steps: list[tuple[str, float, int]],
) -> None:
    breaker, now, under_way, begun = Breaker(), NOW, 0, 0
    for what, seconds, wanted in steps:
        now += timedelta(seconds=seconds)
        if what == "ask":
            admission = admit(breaker, POLICY, BUDGET, now, under_way)
            count = min(wanted, admission.count)
            assert under_way + count <= max(BUDGET.concurrency, under_way)
            if admission.breaker.state in {BreakerState.OPEN, BreakerState.PROBING}:
                assert count <= 1
            breaker = spent(admission.breaker, POLICY, now, count)
            under_way += count
            begun += count
        elif under_way:
            under_way -= 1
            breaker = answered(breaker, POLICY, now, None if what == "good" else DOWN, 0.5)
        open_ = breaker.state in {BreakerState.OPEN, BreakerState.PROBING}
        assert open_ == (breaker.probe_at is not None)
        assert (breaker.state is BreakerState.CLOSED) == (breaker.cause is None)
    assert begun <= BUDGET.rate * (1 + (now - NOW).total_seconds()) + 1
