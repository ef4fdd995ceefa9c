"""The decision table: one failure class, one row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lodgment.decisions import (
    Closedown,
    Decision,
    Delays,
    RetryPolicy,
    Tally,
    decide,
    decide_after_question,
    decide_poll,
)
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.states import TRANSITIONS, State

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
POLICY = RetryPolicy()


def failure(kind: FailureClass, available_after: datetime | None = None) -> Failure:
    return Failure(kind, "test.code", "", "What it means.", Party.NOBODY, available_after=available_after)


def after(kind: FailureClass, tally: Tally | None = None, available_after: datetime | None = None) -> Decision:
    return decide(failure(kind, available_after), tally or Tally(), POLICY, NOW)


def test_what_was_not_sent_is_sent_again_with_the_same_envelope() -> None:
    decision = after(FailureClass.NOT_SENT)
    assert (decision.state, decision.resume) == (State.PARKED, State.SEALED)
    assert decision.tally == Tally(waits=1)


@pytest.mark.parametrize("kind", [FailureClass.UNKNOWN, FailureClass.STALE_TOKEN])
def test_a_day_without_a_connection_does_not_use_up_the_tries_of_what_comes_after_it(kind: FailureClass) -> None:
    tally = Tally()
    for _ in range(100):
        tally = after(FailureClass.NOT_SENT, tally).tally
    assert after(kind, tally).state is not State.HELD


def test_what_may_have_left_is_unknown_and_never_failed() -> None:
    decision = after(FailureClass.UNKNOWN)
    assert (decision.state, decision.resume) == (State.UNKNOWN, State.SEALED)


def test_an_unknown_that_stays_unknown_is_put_before_a_person() -> None:
    assert after(FailureClass.UNKNOWN, Tally(failures=POLICY.unknown_limit)).state is State.HELD


def test_an_outage_costs_no_attempt() -> None:
    decision = after(FailureClass.UNAVAILABLE, Tally(failures=2, waits=3))
    assert (decision.state, decision.tally) == (State.PARKED, Tally(failures=2, waits=4))


def test_an_announced_return_is_waited_for() -> None:
    back = NOW + timedelta(hours=3)
    decision = decide(failure(FailureClass.UNAVAILABLE, back), Tally(), POLICY, NOW, spread=0.5)
    assert decision.due_at is not None
    assert back <= decision.due_at <= back + timedelta(minutes=1)


@pytest.mark.parametrize("announced", [NOW - timedelta(days=1), NOW, NOW + timedelta(days=400)])
def test_an_absurd_return_time_is_not_believed(announced: datetime) -> None:
    decision = after(FailureClass.UNAVAILABLE, available_after=announced)
    assert decision.due_at == NOW + POLICY.unavailable.first


def test_a_stale_token_is_renewed_at_once_but_not_for_ever() -> None:
    assert after(FailureClass.STALE_TOKEN).state is State.RECEIVED
    assert after(FailureClass.STALE_TOKEN, Tally(failures=POLICY.stale_token_limit)).state is State.HELD


def test_a_duplicate_was_lodged_and_is_asked_about() -> None:
    assert after(FailureClass.DUPLICATE).state is State.AWAITING


@pytest.mark.parametrize(
    "kind", [FailureClass.OUR_DOCUMENT, FailureClass.THEIR_PERMISSION, FailureClass.OUR_CREDENTIAL]
)
def test_what_waiting_cannot_mend_is_held_for_a_person(kind: FailureClass) -> None:
    decision = after(kind)
    assert (decision.state, decision.due_at) == (State.HELD, None)


def test_a_poll_forgets_failures_and_grows() -> None:
    first = decide_poll(Tally(failures=3), POLICY, NOW, since=NOW)
    later = decide_poll(Tally(waits=2), POLICY, NOW, since=NOW)
    assert first.tally == Tally(failures=0, waits=1)
    assert first.due_at is not None
    assert later.due_at is not None
    assert later.due_at > first.due_at


def test_asks_until_the_time_is_over_that_the_agency_was_answering_in() -> None:
    closed = Closedown(NOW + timedelta(hours=1), NOW + timedelta(days=9))
    policy = replace(POLICY, give_up_after=timedelta(hours=96), closedowns=(closed,))

    def state_after(hours: float) -> State:
        return decide_poll(Tally(), policy, NOW + timedelta(hours=hours), since=NOW).state

    closed_for = (closed.end - closed.start) / timedelta(hours=1)
    assert state_after(95.9) is State.AWAITING
    assert state_after(95.9 + closed_for) is State.AWAITING
    assert state_after(96 + closed_for) is State.HELD


def test_a_question_that_would_fall_into_a_closedown_waits_for_its_end_and_the_crowd_spreads() -> None:
    closed = Closedown(NOW, NOW + timedelta(days=9))
    policy = replace(POLICY, closedowns=(closed,))
    due = [decide_poll(Tally(), policy, NOW, since=NOW, spread=spread).due_at for spread in (0.0, 0.5)]
    assert due == [closed.end, closed.end + policy.poll.cap / 2]


@pytest.mark.parametrize("kind", [FailureClass.NOT_SENT, FailureClass.UNKNOWN, FailureClass.UNAVAILABLE])
def test_a_question_that_brought_no_answer_is_asked_again_and_the_document_never_sent_again(kind: FailureClass) -> None:
    decision = decide_after_question(failure(kind), Tally(failures=50), POLICY, NOW, since=NOW)
    assert (decision.state, decision.resume) == (State.AWAITING, State.RECEIVED)
    assert decision.due_at is not None


@given(kind=st.sampled_from(FailureClass), failures=st.integers(0, 100), waits=st.integers(0, 10_000))
def test_no_failure_of_a_question_leads_back_to_sending_the_same_bytes(
    kind: FailureClass, failures: int, waits: int
) -> None:
    decision = decide_after_question(failure(kind), Tally(failures, waits), POLICY, NOW, since=NOW)
    assert decision.state in {State.AWAITING, State.RECEIVED, State.HELD} & TRANSITIONS[State.SENDING]
    assert decision.resume is not State.SEALED


@given(
    kind=st.sampled_from(FailureClass),
    failures=st.integers(0, 10_000),
    waits=st.integers(0, 10_000),
    spread=st.floats(0, 1, exclude_max=True),
)
def test_every_decision_is_an_arrow_from_sending_and_wakes_in_the_future(
    kind: FailureClass, failures: int, waits: int, spread: float
) -> None:
    decision = decide(failure(kind), Tally(failures, waits), POLICY, NOW, spread=spread)
    assert decision.state in TRANSITIONS[State.SENDING]
    if decision.state not in {State.HELD, State.RECEIVED}:
        assert decision.due_at is not None
        assert NOW < decision.due_at <= NOW + timedelta(hours=1)
        assert decision.resume is State.SEALED


def test_a_delay_grows_to_its_cap_and_no_further() -> None:
    delays = Delays(timedelta(seconds=1), 2, timedelta(seconds=10))
    seconds = [delays.after(times, 0).total_seconds() for times in range(6)]
    assert seconds == [1, 2, 4, 8, 10, 10]
    assert delays.after(10**6, 0.999) <= timedelta(seconds=12)


@given(
    waits=st.integers(min_value=0, max_value=2000),
    spread=st.floats(min_value=0, max_value=1, exclude_max=True),
    minutes=st.integers(min_value=0, max_value=60 * 24 * 30),
    starts=st.lists(st.integers(min_value=0, max_value=60 * 24 * 30), max_size=4, unique=True),
    length=st.integers(min_value=1, max_value=60 * 24 * 9),
)
def test_a_poll_is_never_before_its_schedule_never_in_a_closedown_and_never_given_up_too_early(
    waits: int, spread: float, minutes: int, starts: list[int], length: int
) -> None:
    minute = timedelta(minutes=1)
    ends = [min([start + length, *(other for other in starts if other > start)]) for start in starts]
    calendar = tuple(Closedown(NOW + a * minute, NOW + b * minute) for a, b in zip(starts, ends, strict=True))
    policy = replace(POLICY, closedowns=calendar, give_up_after=timedelta(hours=96))
    now = NOW + minutes * minute
    decision = decide_poll(Tally(waits=waits), policy, now, since=NOW, spread=spread)
    answering = policy.open_time(NOW, now)
    assert timedelta(0) <= answering <= now - NOW
    assert (decision.state is State.HELD) == (answering >= timedelta(hours=96))
    if decision.due_at is None:
        return
    least, most = policy.poll.after(waits, 0), policy.poll.cap * 1.2
    assert decision.due_at >= now + least
    assert policy.open_time(now, decision.due_at) <= most + policy.poll.cap * len(starts)
