"""A bounded run of the battery: all six workers die in one run of lodgments. `make chaos` plays everything."""

import os
import random
from pathlib import Path

import pytest

from tests.chaos import __main__ as runner
from tests.chaos.catalogue import SCENARIOS
from tests.chaos.crashes import MATRIX, all_at_once
from tests.chaos.crashing import Point
from tests.chaos.scenario import Field, House, NotHereError, Scenario
from tests.services.pipeline_processes import WORKERS

_DEATHS = (
    ("intake", Point.PUBLISH_BEFORE),
    ("token", Point.SEND_ANSWERED),
    ("signer", Point.COMMIT_AFTER),
    ("transport", Point.SEND_WRITTEN),
    ("outcome", Point.COMMIT_AFTER),
    ("scheduler", Point.PUBLISH_BEFORE),
)


@pytest.mark.timeout(300)
def test_every_worker_dies_in_the_middle_of_its_work(tmp_path: Path, amqp_url: str, postgres_url: str) -> None:
    seed = int(os.environ.get("LODGE_TEST_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"LODGE_TEST_SEED={seed}")  # noqa: T201  - pytest shows it with a failure
    all_at_once(Field(House(), tmp_path, seed, 60, amqp_url, postgres_url), _DEATHS)


def test_the_matrix_has_every_worker_at_every_point_that_it_passes() -> None:
    assert set(MATRIX) == {
        (worker, point)
        for worker in WORKERS
        for point in Point
        if not point.startswith("send.") or worker in {"token", "transport"}
    }


def test_no_two_scenarios_have_one_name() -> None:
    names = [one.full_name for one in SCENARIOS]
    assert len(names) == len(set(names))


def _breaks(field: Field) -> None:
    field.note(f"drew {field.chance.random()}")
    raise AssertionError("2 promises broken")


def _cannot(_: Field) -> None:
    raise NotHereError("only root may mount")


def test_a_broken_promise_is_told_with_what_was_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = Scenario("made-up", "broken", "promises are broken", _breaks)
    verdicts = [runner.play(House(), scenario, tmp_path, seed, None) for seed in (7, 7, 8)]
    assert verdicts == [runner.Verdict.BROKEN] * 3
    said = [line for line in capsys.readouterr().out.splitlines() if "drew" in line]
    assert said[0].split()[-1] == said[1].split()[-1] != said[2].split()[-1]


def test_what_cannot_be_played_here_is_neither_kept_nor_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = Scenario("made-up", "impossible", "needs root", _cannot)
    assert runner.play(House(), scenario, tmp_path, 1, None) is runner.Verdict.NOT_HERE
    assert "only root may mount" in capsys.readouterr().out
