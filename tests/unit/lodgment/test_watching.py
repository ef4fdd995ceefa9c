"""Lateness is told once, in time, and not for a time in which everybody knows that nobody answers."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.channels.sbr2_profile import usual_policy
from pipeline.lodgment.decisions import Closedown
from pipeline.lodgment.states import State
from pipeline.lodgment.watching import Lateness, Look, look
from tests.doubles.lodgments import NOW, a_lodgment

POLICY = usual_policy()
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
SENT = replace(a_lodgment(), state=State.UNKNOWN, resume=State.SEALED, sent_at=NOW)
TAKEN = replace(SENT, state=State.AWAITING, agency_reference="message@agency.example.test")


def test_a_receipt_that_is_missing_after_five_minutes_is_told_once() -> None:
    assert look(SENT, None, POLICY, NOW + 4 * MINUTE) == Look(None, NOW + 5 * MINUTE)
    assert look(SENT, None, POLICY, NOW + 5 * MINUTE) == Look(Lateness.RECEIPT, NOW + 24 * HOUR)
    assert look(SENT, Lateness.RECEIPT, POLICY, NOW + 6 * MINUTE) == Look(None, NOW + 24 * HOUR)


def test_what_was_acknowledged_is_looked_at_again_after_a_day() -> None:
    assert look(TAKEN, None, POLICY, NOW + 5 * MINUTE) == Look(None, NOW + 24 * HOUR)


def test_an_outcome_is_told_late_after_a_day_and_again_before_asking_ends() -> None:
    assert look(TAKEN, None, POLICY, NOW + 24 * HOUR) == Look(Lateness.OUTCOME, NOW + 72 * HOUR)
    assert look(TAKEN, Lateness.OUTCOME, POLICY, NOW + 72 * HOUR) == Look(Lateness.CLOSING, None)
    assert POLICY.give_up_after is not None
    assert POLICY.closing_after is not None
    assert POLICY.closing_after < POLICY.give_up_after


def test_a_scheduler_that_was_away_tells_the_gravest_only() -> None:
    assert look(SENT, None, POLICY, NOW + 80 * HOUR) == Look(Lateness.CLOSING, None)


def test_days_of_a_closedown_do_not_count() -> None:
    closed = replace(POLICY, closedowns=(Closedown(NOW + HOUR, NOW + 9 * 24 * HOUR),))
    during = look(TAKEN, None, closed, NOW + 48 * HOUR)
    assert during == Look(None, NOW + 9 * 24 * HOUR + 23 * HOUR)
    assert during.again_at is not None
    assert look(TAKEN, None, closed, during.again_at).tell is Lateness.OUTCOME


def test_where_the_channel_answers_at_once_only_the_receipt_is_watched() -> None:
    at_once = replace(POLICY, late_after=None, closing_after=None)
    assert look(SENT, None, at_once, NOW + 5 * MINUTE) == Look(Lateness.RECEIPT, None)


@given(
    minutes=st.lists(st.integers(min_value=1, max_value=60 * 24 * 20), min_size=1, max_size=30),
    start=st.integers(min_value=0, max_value=60 * 24 * 5),
    length=st.integers(min_value=1, max_value=60 * 24 * 9),
    receipt=st.booleans(),
)
def test_whenever_the_watch_looks_it_tells_each_lateness_at_most_once_and_in_order(
    minutes: list[int], start: int, length: int, receipt: bool
) -> None:
    closedown = Closedown(NOW + start * MINUTE, NOW + (start + length) * MINUTE)
    policy = replace(POLICY, closedowns=(closedown,))
    told: list[Lateness] = []
    for minute in sorted(minutes):
        now = NOW + minute * MINUTE
        found = look(TAKEN if receipt else SENT, told[-1] if told else None, policy, now)
        assert found.again_at is None or found.again_at > now
        told += [found.tell] if found.tell else []
    assert told == [one for one in Lateness if one in told]
    assert not (receipt and Lateness.RECEIPT in told)
