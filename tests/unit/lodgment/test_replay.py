"""What may be replayed, and that no document ever has two references in flight."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lodgment.decisions import Tally
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.replay import (
    LEGAL,
    WHY,
    Known,
    Mode,
    bytes_at_hand,
    lodged_again,
    replayed,
    rule,
    successor_of,
)
from pipeline.lodgment.states import FINAL, State, may_follow
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id
from tests.doubles.standings import CODES, in_standing

MARGIN = timedelta(seconds=230)
LEDGER = fresh_id()
LATER = NOW + timedelta(minutes=5)
REASON = Reason("operator.replayed", "synthetic")

standings = st.builds(
    in_standing,
    st.sampled_from(State),
    st.sampled_from(CODES),
    sent=st.booleans(),
    held_over=st.booleans(),
    known_there=st.booleans(),
    envelope=st.booleans(),
    token=st.sampled_from((None, 1, 30)),
)
wishes = st.sampled_from(Mode)


def test_every_standing_has_its_modes_and_its_words() -> None:
    assert set(LEGAL) == set(WHY) == set(Known)


@given(standings, wishes)
def test_what_keeps_its_reference_can_move_and_what_gets_a_new_one_never_moves_again(row: Lodgment, wish: Mode) -> None:
    mode = rule(row, wish, NOW, MARGIN).mode
    if mode is Mode.NEW_REFERENCE:
        assert row.state in {State.REJECTED, State.CANCELLED}
        assert not any(may_follow(row.state, state) for state in State)
    elif mode is not None:
        assert row.state not in FINAL
        after = replayed(row, mode, NOW, LATER, REASON)
        assert (after.id, after.reference, after.payload_id) == (row.id, row.reference, row.payload_id)
        assert (after.tally, after.watch_at, after.due_at, after.replayed_at) == (Tally(), None, LATER, NOW)
        assert (after.attempts, after.sent_at) == (row.attempts, row.sent_at)


@given(standings, wishes)
def test_the_safest_mode_never_gives_a_new_reference_and_no_wish_gives_another_mode(row: Lodgment, wish: Mode) -> None:
    assert rule(row, Mode.SAFEST, NOW, MARGIN).mode in {None, Mode.SAME_BYTES, Mode.SAME_REFERENCE}
    if wish is not Mode.SAFEST:
        assert rule(row, wish, NOW, MARGIN).mode in {None, wish}


@given(standings, wishes)
def test_a_new_reference_is_never_given_where_the_old_one_may_have_been_lodged(row: Lodgment, wish: Mode) -> None:
    may_be_there = row.sent_at is not None and row.state is not State.REJECTED
    if may_be_there and row.state is not State.CANCELLED:
        assert rule(row, wish, NOW, MARGIN).mode is not Mode.NEW_REFERENCE
        with pytest.raises(ValueError, match=str(row.id)):
            lodged_again(row, fresh_id(), LEDGER, NOW, LATER, REASON)


@given(standings)
def test_stored_bytes_go_only_while_their_token_outlives_another_sending(row: Lodgment) -> None:
    ruling = rule(row, Mode.SAME_BYTES, NOW, MARGIN)
    if ruling.mode is Mode.SAME_BYTES:
        assert bytes_at_hand(row, NOW, MARGIN)
        assert row.envelope_id is not None
        assert row.agency_reference is None
        assert row.token_expires_at is None or row.token_expires_at > NOW + MARGIN
        assert replayed(row, Mode.SAME_BYTES, NOW, LATER, REASON).envelope_id == row.envelope_id


@given(st.lists(st.tuples(wishes, st.sampled_from(State), st.integers(0, 5)), max_size=30))
def test_whatever_is_replayed_in_whatever_order_one_document_has_one_reference_in_flight(
    deeds: list[tuple[Mode, State, int]],
) -> None:
    """A document, what the agency and the workers do to its lodgments, and people who replay any of them as they like;
    the ledger lets each job id be used once.
    """
    chain = {"job": replace(a_lodgment(), job_id="job")}
    for wish, target, which in deeds:
        row = list(chain.values())[which % len(chain)]
        if may_follow(row.state, target) and not (target is State.CANCELLED and row.sent_at):
            asleep = target in FINAL or target is State.HELD
            sent_at = NOW if target is State.SENDING else row.sent_at
            row = replace(row.moved(target, due_at=None if asleep else LATER), sent_at=sent_at)
            chain[row.job_id] = row
        mode = rule(row, wish, NOW, MARGIN).mode
        if mode is Mode.NEW_REFERENCE:
            new = lodged_again(row, fresh_id(), LEDGER, NOW, LATER, REASON)
            chain.setdefault(new.job_id, new)
        elif mode is not None:
            chain[row.job_id] = replayed(row, mode, NOW, LATER, REASON)
        in_flight = [one.reference for one in chain.values() if one.state not in FINAL]
        lodged = [one for one in chain.values() if one.state in {State.ACCEPTED, State.PARTIALLY_ACCEPTED}]
        assert len(in_flight) + len(lodged) <= 1
        assert len({one.reference for one in chain.values()}) == len(chain)


def test_a_new_lodgment_cites_its_document_and_has_a_life_of_its_own() -> None:
    old = replace(
        in_standing(State.REJECTED, None, sent=True, held_over=False, known_there=True, envelope=True, token=None),
        facts={"party": "1"},
        order_key="lane",
        finished_at=NOW,
    )
    new = lodged_again(old, fresh_id(), LEDGER, NOW, LATER, REASON)
    assert (new.payload_id, new.facts, new.order_key, new.party_abn) == (
        old.payload_id,
        old.facts,
        "lane",
        old.party_abn,
    )
    assert new.job_id == f"{old.job_id}+2"
    assert (new.state, new.attempts, new.sent_at, new.agency_reference) == (State.RECEIVED, 0, None, None)
    assert new.reference != old.reference
    assert new.envelope_id is None


@pytest.mark.parametrize(("job", "next_job"), [("a", "a+2"), ("a+2", "a+3"), ("a+9", "a+10"), ("a+b", "a+b+2")])
def test_each_job_has_one_successor(job: str, next_job: str) -> None:
    assert successor_of(job) == next_job


def test_the_clock_of_lateness_begins_anew_with_a_replay_but_never_before_it_was_sent() -> None:
    sent = replace(a_lodgment(), sent_at=NOW)
    assert sent.clock_from == NOW
    assert replace(sent, replayed_at=LATER).clock_from == LATER
    assert replace(sent, replayed_at=NOW - timedelta(hours=1)).clock_from == NOW
    assert replace(sent, sent_at=None, replayed_at=LATER).clock_from is None
