"""A bounded run of `make fuzz`, the same every time: what once broke a promise, and some inputs for each parser."""

import itertools
import re
from pathlib import Path

import pytest

from tests.fuzz.catalogue import TARGETS
from tests.fuzz.crashers import CRASHERS
from tests.fuzz.guided import inputs
from tests.fuzz.target import judge

ROOT = Path(__file__).parents[2]
RUNS = 100


@pytest.mark.parametrize("name", TARGETS)
def test_every_parser_keeps_its_promises_for_a_hundred_inputs(name: str) -> None:
    target = TARGETS[name]
    broken = {
        crash.kind: crash.told for data in itertools.islice(inputs(target, 0), RUNS) if (crash := judge(target, data))
    }
    assert not broken


@pytest.mark.parametrize("name", CRASHERS)
def test_what_once_broke_a_promise_breaks_none(name: str) -> None:
    broken = {crash.kind: crash.told for data in CRASHERS[name] if (crash := judge(TARGETS[name], data))}
    assert not broken


@pytest.mark.parametrize("name", TARGETS)
def test_some_seed_of_every_parser_is_taken(name: str) -> None:
    """Else nothing behind the first refusal would ever be reached."""
    target, taken = TARGETS[name], 0
    for seed in target.seeds():
        try:
            target.enter(seed)
        except target.errors:
            continue
        taken += 1
    assert taken


def test_the_page_says_what_must_hold_of_every_parser() -> None:
    page = (ROOT / "docs" / "fuzzing.md").read_text()
    assert set(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE)) == set(TARGETS)
