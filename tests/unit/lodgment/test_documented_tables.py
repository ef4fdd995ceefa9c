"""The tables of docs/architecture.md are those of the code: the transitions, and what follows each failure."""

import re
from datetime import UTC, datetime
from pathlib import Path

from pipeline.lodgment.decisions import RetryPolicy, Tally, decide
from pipeline.lodgment.failures import Failure, FailureClass, Party
from pipeline.lodgment.states import FINAL, TRANSITIONS, State

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
SETTLED = {State.ACCEPTED, State.PARTIALLY_ACCEPTED, State.REJECTED}
WORDS = {
    State.PARKED: "parked",
    State.UNKNOWN: "unknown",
    State.RECEIVED: "a new token, sealed again",
    State.AWAITING: "awaiting",
    State.HELD: "held",
}
"""How the page says what a decision leads to."""


def rows_of(heading: str) -> dict[str, list[str]]:
    """The table that begins with this heading, by its first column."""
    page = (Path(__file__).parents[3] / "docs" / "architecture.md").read_text()
    lines = page[page.index(f"| {heading} |") :].split("\n\n", 1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells}


def test_the_documented_transitions_are_those_of_the_code() -> None:
    """A late reply may settle every state that is not final: the page says so once, beside the table."""
    documented = {
        State(source): {State(target.strip().replace(" ", "_")) for target in targets.split(",")} | SETTLED
        for source, (targets,) in rows_of("from").items()
    }
    assert documented == {source: set(targets) for source, targets in TRANSITIONS.items() if source not in FINAL}


def test_the_documented_decision_of_each_failure_is_the_one_that_is_made() -> None:
    documented = rows_of("failure")
    assert {name.replace(" ", "_") for name in documented} == {str(kind) for kind in FailureClass}
    for name, (_, decision) in documented.items():
        kind = FailureClass(name.replace(" ", "_"))
        made = decide(Failure(kind, "test.code", "", "", Party.NOBODY), Tally(), RetryPolicy(), NOW)
        assert decision.startswith(WORDS[made.state]), (name, decision)
        costs_nothing = made.tally == Tally(waits=1)
        assert ("costs no attempt" in decision) <= costs_nothing
        again = re.search("the same bytes again", decision) is not None
        assert not again or made.resume is State.SEALED
