"""The transition table, held to the promises of the architecture."""

from dataclasses import replace

import pytest

from pipeline.lodgment.lodgment import IllegalTransitionError, Lodgment
from pipeline.lodgment.states import FINAL, NEXT_STEP, TRANSITIONS, State, may_follow
from tests.doubles.lodgments import NOW, a_lodgment


def lodgment(state: State, **changes: object) -> Lodgment:
    return replace(a_lodgment(), state=state, **changes)  # type: ignore[arg-type]  # the test names fields of Lodgment


def sources_of(target: State) -> set[State]:
    return {source for source, targets in TRANSITIONS.items() if target in targets}


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


def test_a_final_state_is_left_by_nothing() -> None:
    assert all(not TRANSITIONS[state] for state in FINAL)


def test_a_state_that_is_not_final_can_be_left() -> None:
    assert all(TRANSITIONS[state] for state in set(State) - FINAL)


def test_a_late_reply_settles_every_state_in_which_one_can_arrive() -> None:
    for state in set(State) - FINAL:
        assert {State.ACCEPTED, State.PARTIALLY_ACCEPTED, State.REJECTED} <= TRANSITIONS[state]


def test_only_sealed_bytes_are_ever_sent() -> None:
    assert sources_of(State.SENDING) == {State.SEALED}


def test_nothing_under_way_or_unknown_is_ever_cancelled() -> None:
    assert not sources_of(State.CANCELLED) & {State.SENDING, State.UNKNOWN, State.AWAITING}


def test_each_step_state_is_reachable_again_after_an_unknown_sending() -> None:
    assert may_follow(State.UNKNOWN, State.SEALED)
    assert may_follow(State.UNKNOWN, State.RECEIVED)
    assert not may_follow(State.UNKNOWN, State.CANCELLED)


def test_a_move_that_the_table_lacks_is_a_defect() -> None:
    with pytest.raises(IllegalTransitionError, match="accepted → sealed"):
        lodgment(State.ACCEPTED, due_at=None).moved(State.SEALED, due_at=NOW)


def test_what_was_sent_once_cannot_be_cancelled() -> None:
    with pytest.raises(IllegalTransitionError, match="was sent"):
        lodgment(State.PARKED, sent_at=NOW).moved(State.CANCELLED)
    with pytest.raises(IllegalTransitionError, match="may have been sent"):
        lodgment(State.PARKED, doubted_at=NOW).moved(State.CANCELLED)
    assert lodgment(State.PARKED).moved(State.CANCELLED).state is State.CANCELLED


@pytest.mark.parametrize("state", sorted(set(State) - FINAL - {State.HELD}))
def test_no_state_that_goes_on_by_itself_is_entered_without_a_wake_up_time(state: State) -> None:
    source = next(source for source in sources_of(state) or {State.SEALED} if source is not state)
    if may_follow(source, state):
        with pytest.raises(IllegalTransitionError, match="needs a due_at"):
            lodgment(source).moved(state)


def test_a_move_counts_the_version_and_forgets_the_old_reason() -> None:
    after = lodgment(State.RECEIVED, version=4, resume=State.SEALED).moved(State.AUTHORISED, due_at=NOW)
    assert (after.version, after.reason, after.resume) == (5, None, None)


def test_every_state_with_a_next_step_is_one_a_lodgment_can_wake_in() -> None:
    assert set(NEXT_STEP) == {State.RECEIVED, State.AUTHORISED, State.SEALED}
