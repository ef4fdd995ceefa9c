"""The table of security cases names tests that exist, and leaves no case without a word."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \|$", re.MULTILINE)
NAME = re.compile(r"`(test_\w+)`")


def _rows() -> list[tuple[str, str, str]]:
    return ROW.findall((ROOT / "docs" / "security-cases.md").read_text())


def test_every_case_is_there_once_and_in_order() -> None:
    assert [int(number) for number, _, _ in _rows()] == list(range(1, 49))


def test_every_case_names_a_test_or_says_that_nothing_shows_it_yet() -> None:
    assert not [number for number, _, shown in _rows() if not NAME.search(shown) and not shown.startswith("Not yet")]


def test_every_test_that_the_table_names_exists() -> None:
    sources = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    defined = {name for source in sources for name in re.findall(r"def (test_\w+)\(", source)}
    named = {name for _, _, shown in _rows() for name in NAME.findall(shown)}
    assert len(named) > 80
    assert not named - defined


def test_every_test_that_the_table_of_bad_input_names_exists() -> None:
    sources = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    defined = {name for source in sources for name in re.findall(r"def (test_\w+)\(", source)}
    named = set(NAME.findall((ROOT / "docs" / "bad-input.md").read_text()))
    assert len(named) > 20
    assert not named - defined
