"""What `lodge status` shows, and how the screen shows anything, without a server."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from pipeline.interfaces.cli.screen import shown, span
from pipeline.interfaces.cli.status import Overview, rendered
from pipeline.ledger.backlog import Overdue
from pipeline.ledger.reports import StateCount
from pipeline.lodgment.states import State

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
QUIET = Overview(
    environment="sandbox",
    at=NOW,
    states=[StateCount("asic_bn", "sandbox", State.PARKED, 3, NOW - timedelta(hours=3))],
    reasons=[],
    due=[],
    overdue=Overdue(0, None),
    holds=[],
    lanes=[],
    wave=0,
    late=[],
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


def test_status_says_when_nobody_takes_what_is_due() -> None:
    assert "LATE" not in text_of(QUIET)
    late = replace(QUIET, overdue=Overdue(7, NOW - timedelta(minutes=90)))
    assert "LATE: 7 should have gone on up to 1 h 30 min ago: is a scheduler running?" in text_of(late)


def test_status_says_when_nothing_runs_here() -> None:
    assert "Nothing is running here" in text_of(replace(QUIET, queues=None, at_work=False))
    assert "Nothing is running here" not in text_of(replace(QUIET, queues=None, at_work=True))


def test_status_says_that_a_replay_waits_for_a_person() -> None:
    assert "Replays" not in text_of(QUIET)
    told = text_of(replace(QUIET, replays={"running": 2, "halted": 1}))
    assert "Replays: 1 halted, 2 running: `lodge replay list`." in told


def test_status_says_when_the_broker_is_away() -> None:
    assert "BROKER: not there." in text_of(replace(QUIET, queues=None, broker="not there"))


@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3 * 3600, "3 h 0 min"), (50 * 3600, "2 d 2 h")]
)
def test_spans_are_told_in_their_largest_units(seconds: int, words: str) -> None:
    assert span(timedelta(seconds=seconds)) == words


def test_texts_from_outside_cannot_move_the_cursor_or_forge_a_line() -> None:
    assert shown("a\x1b[2Jb\nc\u202ed") == "a\ufffd[2Jb\ufffdc\ufffdd"
