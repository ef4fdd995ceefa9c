"""What `lodge status` shows, and how the screen shows anything, without a server."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from pipeline.interfaces.cli.breakers import Standing as BreakerStanding
from pipeline.interfaces.cli.overview import Overview
from pipeline.interfaces.cli.screen import shown, span
from pipeline.interfaces.cli.status import rendered
from pipeline.ledger.backlog import Overdue, WaitingFor
from pipeline.ledger.holds import Standing
from pipeline.ledger.reports import StateCount
from pipeline.ledger.sweeps import SweepNote
from pipeline.ledger.waiting_jobs import WaitingSender
from pipeline.ledger.watch import Near
from pipeline.lodgment.breaker import Breaker, BreakerPolicy, BreakerScope, opened
from pipeline.lodgment.deadlines import Nearness
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.holds import Hold, Reach
from pipeline.lodgment.lodgment import Purpose
from pipeline.lodgment.states import State
from pipeline.lodgment.sweeping import SweepKind
from tests.doubles.lodgments import fresh_id

AWAY = Failure(FailureClass.UNAVAILABLE, "E1003", "", "It is away.", Party.AGENCY, Blast.CHANNEL)
NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
QUIET = Overview(
    environment="sandbox",
    at=NOW,
    states=[StateCount("asic_bn", "sandbox", State.PARKED, 3, NOW - timedelta(hours=3))],
    reasons=[],
    jobs=[],
    due=[],
    overdue=Overdue(0, None),
    holds=[],
    lanes=[],
    wave=0,
    late=[],
    near=[],
    breakers=[],
    closedowns=[],
    replays={},
    quarantined=0,
    queues={"receive": 0},
    broker="reached",
    at_work=None,
)


def text_of(view: Overview) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(rendered(view))
    return capture.get()


def test_status_says_whose_jobs_wait_for_their_turn() -> None:
    assert "turn" not in text_of(QUIET)
    told = text_of(replace(QUIET, jobs=[WaitingSender("SYNTHETIC-BUREAU", 4711, NOW - timedelta(minutes=5))]))
    assert "SYNTHETIC-BUREAU" in told
    assert "4711" in told


def test_status_says_when_nobody_takes_what_is_due() -> None:
    assert "LATE" not in text_of(QUIET)
    late = replace(QUIET, overdue=Overdue(7, NOW - timedelta(minutes=90)))
    assert "LATE: 7 should have gone on up to 1 h 30 min ago: is a scheduler running?" in text_of(late)


def test_status_says_when_nobody_looks_for_what_is_stuck() -> None:
    ran = tuple(SweepNote(kind, NOW - timedelta(seconds=30), None, None, None, 0) for kind in SweepKind)
    assert "SWEEP" not in text_of(replace(QUIET, sweeps=ran, made_at=NOW - timedelta(days=9)))
    assert "SWEEP" not in text_of(replace(QUIET, made_at=NOW - timedelta(seconds=30)))
    [gone, *others] = ran
    stopped = (replace(gone, last_run_at=NOW - timedelta(hours=2)), *others)
    told = text_of(replace(QUIET, sweeps=stopped, made_at=NOW - timedelta(days=9)))
    assert f"SWEEP: nobody has looked for stuck lodgments ({gone.kind}) for 2 h 0 min: start a scheduler" in told
    assert "SWEEP" not in text_of(replace(QUIET, sweeps=stopped, at_work=False))


def test_status_shows_for_an_hour_what_a_sweep_put_right() -> None:
    note = SweepNote(SweepKind.LEASE_OVER, NOW, None, NOW - timedelta(minutes=5), 3, 12)
    shown_now = text_of(replace(QUIET, sweeps=(note,)))
    assert "SWEEP: lease.over: 3 found stuck and put right 5 min ago, 12" in shown_now
    assert "put right" not in text_of(replace(QUIET, sweeps=(replace(note, last_acted_at=NOW - timedelta(hours=2)),)))


def test_status_says_whose_due_date_is_near_and_which_breaker_is_not_closed() -> None:
    near = Near("asic_bn", Nearness.LAST, 4, NOW.date(), fresh_id())
    broken = opened(Breaker(), BreakerPolicy(), NOW - timedelta(hours=1), AWAY, 0)
    view = replace(QUIET, near=[near], breakers=[BreakerStanding(BreakerScope.STS, "https://sts.invalid", broken, 7)])
    said = " ".join(text_of(view).split())
    assert f"DUE: asic_bn: not final, and their due date is very near: 4, the first due {NOW.date()}" in said
    assert "Token service https://sts.invalid: BREAKER OPEN since" in said
    assert "(1 h 0 min), because E1003: It is away. (acts: agency). One goes first now. Waiting: 7." in said


def test_status_says_when_nothing_runs_here() -> None:
    assert "Nothing is running here" in text_of(replace(QUIET, queues=None, at_work=False))
    assert "Nothing is running here" not in text_of(replace(QUIET, queues=None, at_work=True))


@pytest.mark.parametrize(
    ("code", "when"),
    [
        ("lane.turn", "after the one before"),
        ("breaker.open", "when the door opens"),
        ("token.requested", "with its token"),
        ("http.503", "in 40 s"),
    ],
)
def test_status_says_what_is_waited_for_and_not_when_the_scheduler_looks(code: str, when: str) -> None:
    waits = WaitingFor(State.PARKED, code, Party.NOBODY, 3, NOW, NOW + timedelta(seconds=40), fresh_id())
    assert re.search(rf"{re.escape(code)} .* {when}\s", text_of(replace(QUIET, reasons=[waits])))


def test_status_gives_the_whole_command_that_tries_a_hold() -> None:
    reach = Reach("sbr2_stp", Blast.EMPLOYER, "51824753556")
    hold = Hold(fresh_id(), reach, "SBR.GEN.AUTH.006", "No.", Party.EMPLOYER, Purpose.SUBMIT, NOW)
    told = text_of(replace(QUIET, holds=[Standing(hold, 12)]))
    assert 'mended: lodge release --employer "51824753556" --reason "…"' in told


def test_status_says_that_a_replay_waits_for_a_person() -> None:
    assert "Replays" not in text_of(QUIET)
    told = text_of(replace(QUIET, replays={"running": 2, "halted": 1}))
    assert "Replays: 1 halted, 2 running: `lodge replay list`." in told


def test_status_says_which_queue_is_not_there() -> None:
    assert re.search(r"seal +not there", text_of(replace(QUIET, queues={"receive": 3, "seal": None})))


def test_status_says_when_the_broker_is_away() -> None:
    assert "BROKER: not there." in text_of(replace(QUIET, queues=None, broker="not there"))


@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3 * 3600, "3 h 0 min"), (50 * 3600, "2 d 2 h")]
)
def test_spans_are_told_in_their_largest_units(seconds: int, words: str) -> None:
    assert span(timedelta(seconds=seconds)) == words


def test_texts_from_outside_cannot_move_the_cursor_or_forge_a_line() -> None:
    assert shown("a\x1b[2Jb\nc\u202ed") == "a\ufffd[2Jb\ufffdc\ufffdd"
