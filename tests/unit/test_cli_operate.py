"""What release and cancel make of a lodgment, before the ledger is asked."""

from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.interfaces.cli.operate import cancelled, released
from pipeline.lodgment.decisions import Tally
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.lodgment import Reason
from pipeline.lodgment.states import FINAL, State
from tests.doubles.lodgments import NOW, a_lodgment

HELD = replace(a_lodgment(), state=State.HELD, due_at=None, reason=Reason("E2014", "synthetic"), tally=Tally(3, 4))
ID = HELD.id
SENT = replace(HELD, envelope_id=ID, sent_at=NOW, token_expires_at=NOW + timedelta(minutes=1))


def test_release_of_what_was_never_sealed_begins_with_the_token() -> None:
    after = released(HELD, NOW, "ana@desk", "renewed")
    assert (after.state, after.due_at, after.tally) == (State.RECEIVED, NOW, Tally())
    assert after.reason == Reason("operator.released", "Released by ana@desk: renewed")


def test_release_sends_the_same_bytes_while_their_token_is_good() -> None:
    assert released(SENT, NOW, "ana@desk", "again").state is State.SEALED
    assert released(SENT, NOW + timedelta(minutes=2), "ana@desk", "again").state is State.RECEIVED


def test_release_sends_the_same_bytes_where_no_token_is_used() -> None:
    assert released(replace(SENT, token_expires_at=None), NOW, "ana@desk", "again").state is State.SEALED


@pytest.mark.parametrize("state", sorted(set(State) - {State.HELD}))
def test_only_what_is_held_is_released(state: State) -> None:
    with pytest.raises(RefusedError, match=f"is {state}, not held"):
        released(replace(HELD, state=state), NOW, "ana@desk", "why not")


def test_cancel_ends_what_was_never_sent() -> None:
    after = cancelled(HELD, NOW, "ana@desk", "not wanted")
    assert (after.state, after.finished_at, after.due_at) == (State.CANCELLED, NOW, None)


@pytest.mark.parametrize("state", sorted(set(State) - FINAL))
def test_cancel_says_why_what_was_sent_cannot_be_cancelled(state: State) -> None:
    with pytest.raises(RefusedError, match="the agency may have it, so it cannot be cancelled"):
        cancelled(replace(SENT, state=state), NOW, "ana@desk", "not wanted")


@pytest.mark.parametrize("state", sorted(FINAL))
def test_cancel_says_that_what_is_final_is_final(state: State) -> None:
    with pytest.raises(RefusedError, match="which is final"):
        cancelled(replace(SENT, state=state), NOW, "ana@desk", "not wanted")
