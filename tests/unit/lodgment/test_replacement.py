"""When a full file replacement may go, by what its lane has lodged."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.lodgment.failures import Party
from pipeline.lodgment.replacement import LaneEvent, Verdict, judge
from pipeline.lodgment.states import FINAL, State
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id

ROW = replace(a_lodgment(), facts={"submission": "S1", "replaces": "true"})
_VOID = (State.REJECTED, State.CANCELLED)


def event(
    minute: int,
    submission: str = "S1",
    state: State = State.ACCEPTED,
    *,
    replaces: bool = False,
    updates: bool = False,
) -> LaneEvent:
    return LaneEvent(fresh_id(NOW + timedelta(minutes=minute)), submission, state, replaces, updates)


def refused(*history: LaneEvent) -> str:
    found = judge(ROW, history)
    assert found.refusal is not None
    assert found.refusal.who is Party.PRODUCER
    assert found.refusal.text.startswith("AmendmentI: ")
    return found.refusal.code


@pytest.mark.parametrize("state", [State.ACCEPTED, State.PARTIALLY_ACCEPTED])
def test_the_latest_event_may_be_replaced_once_its_outcome_is_in(state: State) -> None:
    original = event(1, state=state)
    assert judge(ROW, [event(0, "S0"), original]) == Verdict(original=original.id)


@pytest.mark.parametrize("state", sorted(set(State) - FINAL))
def test_it_waits_for_the_outcome_of_what_it_replaces(state: State) -> None:
    original = event(1, state=state)
    assert judge(ROW, [original]) == Verdict(waits_for=original.id, original=original.id)


def test_an_event_that_was_lodged_elsewhere_is_left_to_the_agency() -> None:
    assert judge(ROW, []) == judge(ROW, [event(0, "S0")]) == Verdict(elsewhere=True)


def test_an_event_is_replaced_only_once() -> None:
    assert refused(event(1), event(2, replaces=True)) == "replacement.again"


@pytest.mark.parametrize("state", _VOID)
def test_a_replacement_that_came_to_nothing_does_not_count(state: State) -> None:
    original = event(1)
    assert judge(ROW, [original, event(2, state=state, replaces=True)]) == Verdict(original=original.id)


def test_while_another_replacement_is_under_way_it_waits_for_that_one() -> None:
    original, first = event(1), event(2, state=State.AWAITING, replaces=True)
    assert judge(ROW, [original, first]) == Verdict(waits_for=first.id, original=original.id)


def test_only_the_latest_event_of_the_lane_is_replaced() -> None:
    assert refused(event(1), event(2, "S2")) == "replacement.latest"
    assert refused(event(1), event(2, "S2", updates=True)) == "replacement.latest"


@pytest.mark.parametrize("state", _VOID)
def test_a_later_event_that_came_to_nothing_does_not_count(state: State) -> None:
    original = event(1)
    assert judge(ROW, [original, event(2, "S2", state)]) == Verdict(original=original.id)


def test_a_later_event_without_an_outcome_is_waited_for() -> None:
    original, later = event(1), event(2, "S2", State.AWAITING)
    assert judge(ROW, [original, later]) == Verdict(waits_for=later.id, original=original.id)


@pytest.mark.parametrize("state", sorted(set(State) - set(_VOID)))
def test_an_update_event_is_never_replaced(state: State) -> None:
    assert refused(event(1, state=state, updates=True)) == "replacement.update"


@pytest.mark.parametrize("state", _VOID)
def test_what_was_never_lodged_is_not_replaced(state: State) -> None:
    assert refused(event(1, state=state)) == "replacement.void"


def test_an_event_lodged_anew_after_a_rejection_may_be_replaced() -> None:
    again = event(2)
    assert judge(ROW, [event(1, state=State.REJECTED), again]) == Verdict(original=again.id)
