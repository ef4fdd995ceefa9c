"""The harness itself: it must see every way in which a promise can be broken, or its silence says nothing."""

import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import __main__ as runner
from tests.fuzz import guided
from tests.fuzz.catalogue import TARGETS
from tests.fuzz.guided import Session, inputs
from tests.fuzz.mutation import JSON, LONGEST, PLAIN, TABLE, TOML, XML, Form, mutated
from tests.fuzz.target import Target, judge, must

SECRET = "SYNTHETIC-SECRET"


def parser(enter: Callable[[bytes], object]) -> Target:
    return Target("synthetic", "", lambda: (b"a", b"b"), enter, (ValueError,), secrets=(SECRET,))


def _raising(error: Exception) -> Callable[[bytes], object]:
    def enter(_: bytes) -> None:
        raise error

    return enter


def _slow(_: bytes) -> None:
    end = time.process_time() + 5.1
    while time.process_time() < end:
        pass


def _large(_: bytes) -> None:
    bytearray(b"a" * (300 * 1024 * 1024))


@pytest.mark.parametrize(
    ("enter", "kind"),
    [
        (_raising(KeyError("a")), "KeyError in the target"),
        (_raising(RecursionError()), "RecursionError in the target"),
        (_raising(ValueError(f"the password {SECRET} is wrong")), "ValueError text with a secret"),
        (_raising(ValueError("a\nforged line")), "ValueError text with control characters"),
        (_raising(ValueError("a\x1b[2J")), "ValueError text with control characters"),
        (_raising(ValueError("a" * 5000)), "ValueError text of more than 4000 characters"),
        (lambda _: must(holds=False, promise="it holds"), "Broken it holds target.py"),
        (_slow, "slow"),
        (_large, "large"),
    ],
    ids=["unnamed", "recursion", "secret", "line", "escape", "long", "promise", "slow", "large"],
)
def test_a_broken_promise_is_seen(enter: Callable[[bytes], object], kind: str) -> None:
    crash = judge(parser(enter), b"")
    assert crash is not None
    assert crash.kind.startswith(kind)


def test_a_named_refusal_in_plain_words_breaks_none() -> None:
    assert judge(parser(_raising(ValueError("field: rule, and the fix"))), b"") is None


def test_the_first_input_of_each_kind_is_kept_with_what_it_did(tmp_path: Path) -> None:
    def enter(data: bytes) -> None:
        raise {b"a": KeyError, b"b": IndexError}.get(data, ValueError)(data.decode())

    session = Session(parser(enter), tmp_path, 60)
    assert all(session.take(data) for data in (b"a", b"b", b"a", b"c"))
    kept = sorted(path.read_bytes() for path in tmp_path.glob("crash-*") if path.suffix != ".txt")
    assert kept == [b"a", b"b"]
    assert sorted(path.read_text().splitlines()[0] for path in tmp_path.glob("*.txt")) == sorted(session.seen.kinds)
    assert session.seen.runs == 4


def test_inputs_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    target = parser(lambda _: None)
    first, again, other = (list(itertools.islice(inputs(target, seed), 200)) for seed in (7, 7, 8))
    assert first == again != other
    assert first[:2] == [b"a", b"b"]


@pytest.mark.parametrize("form", [PLAIN, XML, JSON, TABLE, TOML], ids=["plain", "xml", "json", "table", "toml"])
def test_changes_reach_bytes_and_pieces_and_stay_within_bounds(form: Form) -> None:
    data = b'<a b="c">{"d": 1},e = "f"\n</a>' * 4
    made = {mutated(data, (data, b"<other/>"), form, random.Random(number)) for number in range(300)}  # noqa: S311
    assert len(made) > 250
    assert max(map(len, made)) <= LONGEST
    assert any(one.count(b"<a ") != 4 for one in made)


@pytest.mark.parametrize(("enter", "code"), [(lambda _: None, 0), (_raising(KeyError("a")), 1)], ids=["kept", "broken"])
def test_the_exit_code_says_whether_a_promise_was_broken(
    enter: Callable[[bytes], object], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guided, "ATHERIS", False)
    monkeypatch.setattr(runner, "catalogue", lambda: {"synthetic": parser(enter)})
    monkeypatch.setattr(runner, "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["fuzz", "--seconds", "1", "--seed", "7"])
    assert runner.main() == code
    assert len([path for path in tmp_path.rglob("crash-*") if path.suffix != ".txt"]) == code


def test_a_name_that_no_target_has_lists_those_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "catalogue", lambda: TARGETS)
    monkeypatch.setattr("sys.argv", ["fuzz", "--only", "nothing"])
    assert runner.main() == 2
    assert all(f"{name} " in capsys.readouterr().out for name in ("keystore",))
