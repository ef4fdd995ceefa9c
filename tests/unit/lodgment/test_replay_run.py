"""Stages, pace and halting of a replay, and who may press what."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lodgment.errors import RefusedError
from pipeline.lodgment.lodgment import BREAKER_OPEN, BREAKER_POLLS, LANE_TURN, TOKEN_REQUESTED, Reason
from pipeline.lodgment.replay import Mode
from pipeline.lodgment.replay_pace import Pace
from pipeline.lodgment.replay_run import (
    End,
    Recent,
    Replay,
    ReplayPolicy,
    ReplayState,
    allowance,
    approved,
    cancelled,
    ended,
    halted_by,
    paced,
    paused,
    resumed,
    room_left,
    size_of,
    stage_over,
    started,
)
from pipeline.lodgment.states import State
from tests.doubles.lodgments import NOW, a_lodgment, fresh_id

POLICY = ReplayPolicy()
PLANNED = Replay(fresh_id(), NOW, "ana@desk", "mended", "state=held", Mode.SAFEST, total=1000)
RUNNING = started(PLANNED, "ana@desk", NOW, None, None)
NEW = replace(PLANNED, mode=Mode.NEW_REFERENCE)
SECOND = timedelta(seconds=1)


@given(st.integers(1, 5000), st.lists(st.integers(0, 400), max_size=60))
def test_a_stage_goes_out_whole_and_ends_before_the_next_begins(total: int, rooms: list[int]) -> None:
    one = started(replace(PLANNED, total=total), "ana@desk", NOW, 400, None)
    sizes = [min(size, total) for size in POLICY.stages]
    now = NOW
    for room in rooms:
        now += SECOND
        number = allowance(one, now, room, POLICY)
        assert number <= max(room, 1)
        one = replace(
            paced(one, now, number, room, POLICY),
            started=one.started + number,
            stage_started=one.stage_started + number,
        )
        assert one.started <= total
        if one.stage < len(sizes):
            assert one.stage_started <= sizes[one.stage]
        if number == 0:
            one = replace(one, ended=one.started)
        if stage_over(one, POLICY) and one.left:
            assert one.stage_started == size_of(one, POLICY)
            one = replace(one, stage=one.stage + 1, stage_started=0)


@given(st.floats(0.01, 500), st.lists(st.floats(0.01, 3), min_size=1, max_size=80))
def test_no_more_go_out_than_the_rate_lets(rate: float, waits: list[float]) -> None:
    one = replace(started(replace(PLANNED, total=10**9), "ana@desk", NOW, rate, None), stage=3)
    now, out = NOW, 0
    for wait in waits:
        now += timedelta(seconds=wait)
        number = allowance(one, now, 10**6, POLICY)
        one = paced(one, now, number, 10**6, POLICY)
        out += number
    burst = max(1, rate * POLICY.burst.total_seconds())
    assert out <= rate * (now - NOW).total_seconds() + burst + 1


def test_without_room_live_work_goes_first_and_one_a_second_keeps_a_replay_alive() -> None:
    one = replace(RUNNING, stage=3)
    assert allowance(one, NOW + SECOND / 2, 0, POLICY) == 0
    out = 0
    now = NOW
    for _ in range(40):
        now += SECOND / 4
        number = allowance(one, now, -500, POLICY)
        one = paced(one, now, number, -500, POLICY)
        out += number
    assert out == 10


@pytest.mark.parametrize(
    ("rate", "room", "unsent", "left"),
    [
        (20, 50, 0, 5),
        (20, 50, 5, 0),
        (20, 50, 9, -4),
        (20, 3, 0, 3),
        (1000, 50, 0, 50),
        (0.5, 50, 0, 1),
        (0.5, 50, 1, 0),
    ],
)
def test_no_more_wait_to_be_sent_than_a_quarter_of_a_second_lets_out(
    rate: float, room: int, unsent: int, left: int
) -> None:
    assert room_left(replace(RUNNING, rate=rate), room, unsent, POLICY) == left


@pytest.mark.parametrize(
    ("stage", "stage_started", "recent", "halts"),
    [
        (0, 1, Recent(1, {"E1": 1}), "E1"),
        (0, 1, Recent(1, {}), None),
        (1, 10, Recent(3, {"E1": 1}), "E1"),
        (2, 100, Recent(20, {"E1": 9}), None),
        (2, 100, Recent(20, {"E1": 9, "E2": 10}), "E2"),
        (2, 100, Recent(100, {"E1": 5, "E2": 9}), None),
        (3, 5000, Recent(1000, {"E1": 99}), None),
        (3, 5000, Recent(1000, {"E1": 100}), "E1"),
    ],
)
def test_halts_when_one_failure_meets_its_share_of_a_stage(
    stage: int, stage_started: int, recent: Recent, halts: str | None
) -> None:
    one = replace(RUNNING, total=10_000, stage=stage, stage_started=stage_started, started=stage_started)
    assert halted_by(recent, one, POLICY) == halts


@given(st.integers(1, 1000), st.floats(0.001, 1))
def test_a_stage_in_which_all_fail_alike_halts_at_every_share(number: int, share: float) -> None:
    one = replace(RUNNING, total=10_000, halt_share=share, stage=3, stage_started=number, started=number)
    recent = Recent(max(number, POLICY.sample), {"E1": max(number, POLICY.sample)})
    assert halted_by(recent, one, POLICY) == "E1"


SAID = Reason("E1", "synthetic")


@pytest.mark.parametrize(
    ("state", "reason", "end"),
    [
        (State.ACCEPTED, None, End(State.ACCEPTED, None, failed=False)),
        (State.AWAITING, SAID, None),
        (State.REJECTED, SAID, End(State.REJECTED, "E1", failed=True)),
        (State.HELD, SAID, End(State.HELD, "E1", failed=True)),
        (State.UNKNOWN, SAID, End(State.UNKNOWN, "E1", failed=True)),
        (State.PARKED, SAID, End(State.PARKED, "E1", failed=True)),
        (State.PARKED, Reason(LANE_TURN, ""), None),
        (State.PARKED, Reason(TOKEN_REQUESTED, ""), None),
        (State.PARKED, Reason(BREAKER_OPEN, ""), None),
        (State.SEALED, SAID, None),
        (State.SENDING, SAID, None),
        (State.RECEIVED, SAID, None),
    ],
)
def test_a_lodgment_has_ended_when_it_comes_to_rest(state: State, reason: Reason | None, end: End | None) -> None:
    row = replace(a_lodgment(), state=state, reason=reason)
    assert ended(row, NOW, NOW + SECOND, POLICY) == end


@pytest.mark.parametrize("code", [BREAKER_OPEN, BREAKER_POLLS])
def test_before_a_closed_door_it_is_waited_for_as_long_as_that_is_closed(code: str) -> None:
    row = replace(a_lodgment(), state=State.PARKED, reason=Reason(code, ""))
    assert ended(row, NOW, NOW + 100 * POLICY.patience, POLICY) is None


def test_a_replay_that_gives_way_starts_fewer_and_has_fewer_on_their_way() -> None:
    slow = replace(RUNNING, rate=40, stage=3, paced_at=NOW, pace=Pace(8, NOW, NOW))
    assert [allowance(one, NOW + SECOND, 1000, POLICY) for one in (replace(slow, pace=None), slow)] == [40, 8]
    assert [room_left(one, 1000, 0, POLICY) for one in (replace(slow, pace=None), slow)] == [10, 2]
    assert replace(slow, rate=4).speed == 4, "a rate that was set lower since holds at once"


@pytest.mark.parametrize(("state", "code"), [(State.PARKED, TOKEN_REQUESTED), (State.AWAITING, "agency.delayed")])
def test_a_stage_does_not_wait_for_ever_for_a_token_or_an_outcome(state: State, code: str) -> None:
    row = replace(a_lodgment(), state=state, reason=Reason(code, ""))
    assert ended(row, NOW, NOW + POLICY.patience, POLICY) == End(state, code, failed=False)


def test_a_new_reference_needs_a_second_person_wherever_the_first_one_sits() -> None:
    with pytest.raises(RefusedError, match="a second person must first `lodge replay approve") as refusal:
        started(NEW, "ben@desk", NOW, None, None)
    assert refusal.value.code == "replay.approval"
    for same in ("ana@desk", "ana@bastion", "Ana@desk"):
        with pytest.raises(RefusedError, match="somebody else must look at it") as refusal:
            approved(NEW, same, NOW)
        assert refusal.value.code == "replay.second-person"
    seen = approved(NEW, "ben@desk", NOW)
    assert (seen.approved_by, seen.approved_at) == ("ben@desk", NOW)
    assert started(seen, "ana@desk", NOW, None, None).state is ReplayState.RUNNING
    with pytest.raises(RefusedError, match="was approved by ben@desk already"):
        approved(seen, "cy@desk", NOW)


def test_what_keeps_its_references_needs_no_approval() -> None:
    with pytest.raises(RefusedError, match="keeps every reference"):
        approved(PLANNED, "ben@desk", NOW)


def test_a_replay_of_nothing_is_not_started() -> None:
    with pytest.raises(RefusedError, match="none of its lodgments may be replayed that way"):
        started(replace(PLANNED, total=0), "ana@desk", NOW, None, None)


def test_resuming_forgives_what_ended_before_and_may_change_the_pace() -> None:
    halted = replace(RUNNING, state=ReplayState.HALTED, halt_code="E1")
    again = resumed(halted, NOW + SECOND, 5, 0.5)
    assert (again.state, again.halt_code, again.judged_since) == (ReplayState.RUNNING, None, NOW + SECOND)
    assert (again.rate, again.halt_share) == (5, 0.5)
    assert resumed(paused(RUNNING), NOW, None, None).rate == RUNNING.rate


@pytest.mark.parametrize(
    ("deed", "states"),
    [
        (paused, {ReplayState.RUNNING}),
        (lambda one: resumed(one, NOW, None, None), {ReplayState.PAUSED, ReplayState.HALTED}),
        (lambda one: started(one, "ana@desk", NOW, None, None), {ReplayState.PLANNED}),
        (lambda one: cancelled(one, NOW), set(ReplayState) - {ReplayState.CANCELLED, ReplayState.DONE}),
    ],
)
def test_every_deed_says_where_it_is_possible(deed: Callable[[Replay], Replay], states: set[ReplayState]) -> None:
    for state in ReplayState:
        one = replace(RUNNING, state=state)
        if state in states:
            assert deed(one).state is not state
            continue
        with pytest.raises(RefusedError, match=f"is {state}: to ") as refusal:
            deed(one)
        assert refusal.value.code == "replay.state"
