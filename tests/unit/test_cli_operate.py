"""What release and cancel make of a lodgment, before the ledger is asked."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from pipeline.interfaces.cli.operate import cancelled, released
from pipeline.lodgment.decisions import Tally
from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.references import message_reference_number
from pipeline.lodgment.states import FINAL, State

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
ID = UUID("01a209bb-2f8b-798c-86be-a5938bf1a8d1")
HELD = Lodgment(
    id=ID,
    reference=message_reference_number(ID),
    job_id="job-1",
    content_digest="0" * 64,
    channel="asic_bn",
    service="business-names",
    action="bnLodgeApplication",
    environment="sandbox",
    sender_id="SYNTHETIC-1",
    sender_type="REGA",
    party_abn="51824753556",
    credential="ABRD:51824753556_Synthetic",
    software_id=None,
    order_key=None,
    priority=5,
    due_date=None,
    received_at=NOW,
    payload_id=ID,
    state=State.HELD,
    reason=Reason("E2014", "synthetic"),
    tally=Tally(3, 4),
)
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
