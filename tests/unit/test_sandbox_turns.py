"""Whose turn it is for trouble."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import pytest

from pipeline.sandbox.sbr2_scenarios import Sbr2Scenario
from pipeline.sandbox.scenarios import FINAL, Delivery, Scenario, Script, Verdict, take_turn

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize("scenario", set(Scenario) - {Scenario.REJECT, Scenario.DELAYED})
def test_every_trouble_ends_in_acceptance_after_its_times(scenario: Scenario) -> None:
    turn = take_turn(Script(scenario, times=2), 2, NOW, NOW)
    assert turn.verdict in {Verdict.ACCEPTED, Verdict.ACCEPTED_WITH_WARNINGS}
    assert (turn.delivery, turn.trouble) == (Delivery.WHOLE, False)


@pytest.mark.parametrize("scenario", set(Scenario) - {Scenario.ACCEPT, Scenario.ACCEPT_WITH_WARNINGS, Scenario.REJECT})
def test_trouble_without_end_never_ends(scenario: Scenario) -> None:
    turn = take_turn(Script(scenario, times=-1), 1_000, NOW, NOW + timedelta(days=1))
    assert turn.trouble


@pytest.mark.parametrize("scenario", [Scenario.LOST_REPLY, Scenario.TRUNCATED_REPLY, Scenario.SLOW])
def test_trouble_on_the_way_back_comes_after_processing(scenario: Scenario) -> None:
    turn = take_turn(Script(scenario), 0, NOW, NOW)
    assert turn.verdict in FINAL
    assert turn.delivery is not Delivery.WHOLE


@pytest.mark.parametrize(("seconds", "verdict"), [(1.9, Verdict.DELAYED), (2.0, Verdict.ACCEPTED)])
def test_a_delayed_lodgment_is_ready_when_its_time_has_come(seconds: float, verdict: Verdict) -> None:
    asked = NOW + timedelta(seconds=seconds)
    assert take_turn(Script(Scenario.DELAYED, seconds=2), 5, NOW, asked).verdict is verdict


@pytest.mark.parametrize(("heading", "scenarios"), [("ASIC Business Names", Scenario), ("SBR2", Sbr2Scenario)])
def test_every_scenario_is_documented(heading: str, scenarios: type[StrEnum]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "sandbox.md").read_text()
    section = page[page.index(f"## {heading}\n") :].split("\n## ", 1)[0]
    table = section[section.index("| scenario |") :].split("\n\n", 1)[0]
    named = {name for line in table.splitlines()[2:] for name in re.findall(r"`([a-z-]+)`", line.split("|")[1])}
    assert named == set(scenarios)
