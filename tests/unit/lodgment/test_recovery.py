"""What a restored ledger may still believe of its open lodgments."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.lodgment.lodgment import LANE_TURN, LEDGER_RESTORED, NOT_BEFORE, Lodgment, Reason
from pipeline.lodgment.recovery import doubted
from pipeline.lodgment.states import FINAL, NEXT_STEP, State
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id

LATER = NOW + timedelta(hours=1)
PARKED = replace(a_lodgment(), state=State.PARKED, resume=State.SEALED, reason=Reason(LANE_TURN, ""), due_at=LATER)


def after(row: Lodgment) -> Lodgment:
    found = doubted(row, NOW, NOW)
    assert found is not None
    assert (found.doubted_at, found.version, found.reference) == (NOW, row.version + 1, row.reference)
    return found


@pytest.mark.parametrize("state", sorted(NEXT_STEP))
def test_what_a_step_had_is_unknown_whether_it_was_sent_by_then_or_not(state: State) -> None:
    for sent_at in (None, NOW - timedelta(hours=2)):
        found = after(replace(a_lodgment(), state=state, sent_at=sent_at))
        assert (found.state, found.due_at, found.sent_at) == (State.UNKNOWN, NOW, sent_at)
        assert found.reason is not None
        assert found.reason.code == LEDGER_RESTORED


def test_what_is_sealed_is_sent_again_as_it_is_and_the_rest_is_sealed_anew() -> None:
    assert after(replace(PARKED, envelope_id=fresh_id())).resume is State.SEALED
    assert after(PARKED).resume is State.RECEIVED
    assert after(replace(PARKED, resume=State.RECEIVED, envelope_id=fresh_id())).resume is State.RECEIVED


def test_what_waits_for_its_producers_time_was_not_sent_unless_that_has_come() -> None:
    waiting = replace(PARKED, resume=State.RECEIVED, reason=Reason(NOT_BEFORE, ""))
    assert doubted(waiting, NOW, NOW) is None
    assert after(replace(waiting, due_at=NOW)).state is State.UNKNOWN


def test_what_is_held_stays_with_its_person_and_loses_nothing() -> None:
    hold_id = fresh_id()
    held = replace(PARKED, state=State.HELD, due_at=None, hold_id=hold_id, reason=Reason("E2014", ""))
    assert after(held) == replace(held, doubted_at=NOW, version=held.version + 1)


@pytest.mark.parametrize("state", sorted({State.SENDING, State.UNKNOWN, State.AWAITING} | FINAL))
def test_what_settles_itself_or_is_final_stays_as_it_is(state: State) -> None:
    assert doubted(replace(PARKED, state=state), NOW, NOW) is None


def test_doubting_again_changes_nothing() -> None:
    assert doubted(after(PARKED), LATER, LATER) is None
