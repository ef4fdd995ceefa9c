"""What answers say of an agency's door, and how its breaker closes and opens it, whatever comes in whatever order."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lodgment.breaker import Breaker, BreakerPolicy, BreakerState, Budget, admit, answered, opened, spent
from pipeline.lodgment.doors import OPERATOR_STOPPED, BreakerPolicies, Door, Said, bars, said, stopped
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.outcome import Outcome, Result
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.doubles.moody_agency import REFUSED, SILENT

POLICY = BreakerPolicy(ramp_answered=0.5)
PLENTY = Budget(1e6, 1_000_000)
SECOND = timedelta(seconds=1)
DOWN = Failure(FailureClass.UNAVAILABLE, "http.503", "", "It is away.", Party.NOBODY, Blast.CHANNEL)


TURNED_AWAY = replace(DOWN, code="http.403", blast=Blast.EMPLOYER)


@pytest.mark.parametrize(
    ("verdict", "asked", "means"),
    [
        (DOWN, False, Said.DOWN),
        (REFUSED, False, Said.DOWN),
        (SILENT, False, Said.DOWN),
        (replace(SILENT, code="http.502"), False, Said.DOWN),
        (replace(SILENT, code="reply.reference"), False, Said.NOTHING),
        (replace(SILENT, code="worker.lost"), False, Said.NOTHING),
        (replace(REFUSED, code="transport.pool-timeout", blast=Blast.LODGMENT), False, Said.NOTHING),
        (replace(DOWN, kind=FailureClass.OUR_DOCUMENT, code="transport.request"), False, Said.NOTHING),
        (replace(DOWN, kind=FailureClass.OUR_DOCUMENT, code="asic:FAULT.INVALIDXML"), False, Said.WORKS),
        (replace(DOWN, kind=FailureClass.STALE_TOKEN, code="wsse:FailedCheck"), False, Said.WORKS),
        (replace(DOWN, kind=FailureClass.THEIR_PERMISSION), False, Said.WORKS),
        (TURNED_AWAY, False, Said.TURNED_AWAY),
        (TURNED_AWAY, True, Said.TURNED_AWAY),
        (Outcome(Result.REJECTED, "x"), False, Said.WORKS),
        (Outcome(Result.DELAYED, "x"), False, Said.WORKS),
        (Outcome(Result.DELAYED, "x"), True, Said.QUIET),
        (Outcome(Result.ACCEPTED, "x"), True, Said.WORKS),
    ],
)
def test_an_answer_says_of_the_door_what_everybody_would_meet(
    verdict: Outcome | Failure, asked: bool, means: Said
) -> None:
    assert said(verdict, asked=asked) is means


_WORDS = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True).filter(lambda word: word != "polls")


@given(_WORDS, st.none() | _WORDS, st.none() | _WORDS, st.booleans())
def test_a_door_is_found_again_by_its_name(channel: str, service: str | None, gateway: str | None, asks: bool) -> None:
    door = Door(channel) if service is None else Door(channel, service, gateway, asks)
    assert Door.named(door.name) == door


def test_the_policy_of_a_service_is_the_last_that_fits() -> None:
    usual, channel, service = (BreakerPolicy(consecutive=number) for number in (1, 2, 3))
    policies = BreakerPolicies(usual, (("a", None, channel), ("a", "s", service)))
    assert [policies.of(Door(*at)).consecutive for at in (("b", "s"), ("a", "t"), ("a", "s"), ("a",))] == [1, 2, 3, 2]


def test_what_a_person_stopped_is_probed_at_no_time_but_the_one_that_was_given() -> None:
    for_good = stopped(Breaker(), NOW, "a wrong address", None)
    assert for_good.cause is not None
    assert for_good.cause.code == OPERATOR_STOPPED
    assert admit(for_good, POLICY, PLENTY, NOW + timedelta(days=400), 0).count == 0
    for_a_while = stopped(Breaker(), NOW, "a wrong address", NOW + SECOND)
    assert [admit(for_a_while, POLICY, PLENTY, NOW + n * SECOND, 0).count for n in (0, 1)] == [0, 1]


def test_while_probed_only_the_canary_goes() -> None:
    canary, other = a_lodgment(), a_lodgment()
    probing = replace(opened(Breaker(), POLICY, NOW, DOWN, 0), state=BreakerState.PROBING, canary_id=canary.id)
    assert (bars(probing, canary), bars(probing, other)) == (False, True)
    assert bars(replace(probing, state=BreakerState.OPEN), canary)


def test_an_employer_who_is_turned_away_counts_once_in_a_window() -> None:
    breaker = Breaker()
    for _ in range(POLICY.consecutive * 2):
        breaker = answered(breaker, POLICY, NOW, TURNED_AWAY, 0, "one")
    assert (breaker.state, breaker.consecutive, breaker.answers) == (BreakerState.CLOSED, 1, 1)
    for number in range(1, POLICY.consecutive):
        breaker = answered(breaker, POLICY, NOW, TURNED_AWAY, 0, f"other {number}")
    assert (breaker.state, breaker.turned_away) == (BreakerState.OPEN, ())
    again = answered(answered(Breaker(), POLICY, NOW, TURNED_AWAY, 0, "one"), POLICY, NOW, None, 0)
    later = answered(again, POLICY, NOW + POLICY.window, TURNED_AWAY, 0, "one")
    assert (later.consecutive, later.turned_away) == (1, ("one",))


def test_whoever_is_turned_away_while_the_door_is_probed_keeps_it_closed() -> None:
    probing = replace(opened(Breaker(), POLICY, NOW, TURNED_AWAY, 0), state=BreakerState.PROBING, canary_id=fresh_id())
    assert answered(probing, POLICY, NOW, TURNED_AWAY, 0, "one").state is BreakerState.OPEN


def ramping(spend: int) -> Breaker:
    probing = replace(opened(Breaker(), POLICY, NOW, DOWN, 0), state=BreakerState.PROBING, canary_id=fresh_id())
    return spent(answered(probing, POLICY, NOW, None, 0), POLICY, NOW, spend)


def test_a_step_of_the_ramp_waits_for_answers_but_not_for_ever() -> None:
    begun = ramping(10)
    later = NOW + POLICY.ramp_every
    assert admit(begun, POLICY, PLENTY, later, 0).breaker.step == 0
    proved = begun
    for _ in range(5):
        proved = answered(proved, POLICY, NOW, None, 0)
    assert admit(proved, POLICY, PLENTY, later, 0).breaker.step == 1
    assert admit(begun, POLICY, PLENTY, NOW + POLICY.probe_patience, 0).breaker.step == 1


def test_failures_in_a_row_end_the_ramp_and_the_next_pause_is_longer() -> None:
    breaker = ramping(10)
    for _ in range(POLICY.ramp_failures):
        assert breaker.state is BreakerState.RAMPING
        breaker = answered(breaker, POLICY, NOW, DOWN, 0)
    assert (breaker.state, breaker.opened_at, breaker.canary_id) == (BreakerState.OPEN, NOW, None)
    assert breaker.probe_at == NOW + POLICY.probe.after(1, 0)


@given(
    st.lists(st.sampled_from(("wait", "probe", "bad", "good")), min_size=1, max_size=60),
    st.floats(0, 0.99),
)
def test_an_outage_of_any_length_is_probed_by_one_at_a_time_and_ever_more_rarely(
    steps: list[str], spread: float
) -> None:
    breaker, now, out = opened(Breaker(), POLICY, NOW, DOWN, spread), NOW, False
    for what in steps:
        if what == "wait":
            now += timedelta(minutes=7)
            out = False
        elif what == "probe" and breaker.state in {BreakerState.OPEN, BreakerState.PROBING}:
            count = admit(breaker, POLICY, PLENTY, now, 0).count
            assert count <= 1
            assert not (count and out), "the one before is still out"
            if count:
                breaker, out = replace(spent(breaker, POLICY, now, 1), canary_id=fresh_id()), True
        elif what == "bad" and breaker.state is BreakerState.PROBING:
            before = breaker.openings
            breaker, out = answered(breaker, POLICY, now, DOWN, spread), False
            assert breaker.probe_at is not None
            wait = breaker.probe_at - now
            assert POLICY.probe.after(before, 0) <= wait <= timedelta(minutes=6)
        elif what == "good" and breaker.state is BreakerState.PROBING:
            assert answered(breaker, POLICY, now, None, spread).state is BreakerState.RAMPING
