"""`lodge replay` as it is typed: the plan with its reasons, the second person, pausing, and what mistakes are told."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from typer.testing import CliRunner

from pipeline.interfaces.cli.app import build
from pipeline.interfaces.cli.replay_screen import followed
from pipeline.interfaces.cli.session import opened_ledger
from pipeline.ledger import lodgments, migrate, replays
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.session import Ledger
from pipeline.ledger.vault import Vault
from pipeline.lodgment.errors import PipelineError
from pipeline.lodgment.lodgment import Lodgment, Reason
from pipeline.lodgment.replay_pace import Pace
from pipeline.lodgment.replay_run import Replay, ReplayState
from pipeline.lodgment.states import State
from pipeline.settings import load_settings
from tests.acceptance.cli.conftest import Lodge
from tests.doubles.lodgments import a_lodgment

NOW = datetime.now(UTC)
WHY = ("--reason", "settings mended")


def in_state(state: State, number: int, code: str = "asic:FAULT.INVALIDXML") -> Lodgment:
    row = a_lodgment(NOW - timedelta(hours=1) + timedelta(seconds=number))
    sent_at = None if state is State.CANCELLED else NOW
    return replace(
        row, job_id=f"job-{number}", state=state, due_at=None, reason=Reason(code, "synthetic"), sent_at=sent_at
    )


@pytest.fixture
def stored(lodge: Lodge) -> list[Lodgment]:
    """Five held, one accepted, one rejected."""
    rows = [in_state(State.HELD, number) for number in range(5)]
    rows += [in_state(State.ACCEPTED, 5), in_state(State.REJECTED, 6, "S9001")]
    return asyncio.run(_store(lodge, rows))


async def _store(lodge: Lodge, rows: Sequence[Lodgment]) -> list[Lodgment]:
    url = f"sqlite:///{lodge.folder / 'var' / 'ledger.sqlite3'}"
    await asyncio.to_thread(migrate.upgrade, url)
    ledger = Ledger(url, Vault([b"synthetic master key, 32 bytes!!"]))
    async with ledger.transaction() as tx:
        await lodgments.add(tx, [NewLodgment(row, '{"version":1}', {}) for row in rows])
    await ledger.close()
    return list(rows)


@pytest.fixture
def replay(lodge: Lodge, stored: list[Lodgment], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`lodge replay` in this process: what it prints; its errors are raised."""
    assert stored
    monkeypatch.chdir(lodge.folder)
    for name, value in lodge.environment.items():
        monkeypatch.setenv(name, value)
    runner, app = CliRunner(), build()

    def run(*arguments: str, user: str = "ana") -> str:
        left = runner.invoke(app, ["replay", *arguments], env={"SUDO_USER": user}, catch_exceptions=False)
        assert left.exit_code == 0, left.output
        return left.output

    return run


def test_a_plan_says_how_many_what_is_legal_and_why_and_what_to_press(replay: Callable[..., str]) -> None:
    told = replay("plan", "--where", "channel=asic_bn and state!=cancelled", *WHY)
    assert "5 may be replayed, 2 may not; mode safest" in told
    assert "It is final, and never sent again." in told
    assert "only as a new lodgment, with a reason and a second person" in told
    [listed] = json.loads(replay("list", "--json"))
    assert (listed["total"], listed["barred"], listed["state"]) == (5, 2, "planned")
    which = listed["id"]
    assert f"lodge replay start {which} --follow" in told
    begun = replay("start", which[:13], "--rate", "5")
    assert "5 lodgments at up to 5 a second" in begun
    assert "Nothing is running here: start `lodge run`" in begun
    assert f"Paused: {which}; 0 are on their way, 5 wait" in replay("pause", which)
    shown = json.loads(replay("show", which, "--items", "--json"))
    assert shown["replay"]["state"] == "paused"
    assert {item["job_id"]: item["state"] for item in shown["items"]} == {
        **{f"job-{number}": "waiting" for number in range(5)},
        "job-5": "barred",
        "job-6": "barred",
    }
    assert "5 stay as they are" in replay("cancel", which)
    with pytest.raises(PipelineError, match="is cancelled: to resume it, it must be paused or halted"):
        replay("resume", which)


def test_a_new_reference_waits_for_a_second_person(replay: Callable[..., str]) -> None:
    told = replay("plan", "--where", "code=S9001", "--mode", "new-reference", *WHY, "--json")
    which = json.loads(told)["replay"]["id"]
    with pytest.raises(PipelineError, match="a second person must first"):
        replay("start", which)
    with pytest.raises(PipelineError, match="somebody else must look at it and approve it"):
        replay("approve", which)
    assert "1 lodgments under new references" in replay("approve", which, user="ben")
    assert replay("start", which).startswith("Started: ")
    assert "by ben@" in replay("show", which)


def test_following_ends_when_the_replay_rests(replay: Callable[..., str]) -> None:
    which = json.loads(replay("plan", "--where", "state=held", *WHY, "--json"))["replay"]["id"]
    replay("start", which)
    settings = load_settings()

    async def follow() -> Replay:
        following = asyncio.create_task(followed(settings, UUID(which)))
        async with opened_ledger(settings) as ledger:
            async with ledger.transaction() as tx:
                one = await replays.lock(tx, UUID(which))
                assert one is not None
                halted = replace(one, state=ReplayState.HALTED, halt_code="E1", started=1, ended=1, failed=1)
                await replays.change(tx, halted)
            return await following

    after = asyncio.run(follow())
    assert (after.state, after.ended) == (ReplayState.HALTED, 1)
    told = replay("show", which)
    assert "halted by     E1, which met 10.0% or more of the stage" in told
    assert f"mend the cause, then `lodge replay resume {which}`" in told


def test_how_fast_it_goes_and_why_not_faster_is_shown(replay: Callable[..., str]) -> None:
    which = json.loads(replay("plan", "--where", "state=held", *WHY, "--json"))["replay"]["id"]
    replay("start", which)
    assert "a second, looked at" not in replay("show", which), "nobody has looked yet"
    asyncio.run(_paced(which, Pace(2.5, NOW, NOW, why="14 of 212 live lodgments took more than 0.42 s to be sent")))
    told = replay("show", which)
    assert "now           up to 2.5 a second, looked at" in told
    assert "14 of 212 live lodgments took more than 0.42 s to be sent" in told
    assert json.loads(replay("show", which, "--json"))["replay"]["pace"]["speed"] == 2.5
    replay("pause", which)
    assert "a second, looked at" not in replay("show", which)


async def _paced(which: str, pace: Pace) -> None:
    async with opened_ledger(load_settings()) as ledger, ledger.transaction() as tx:
        one = await replays.lock(tx, UUID(which))
        assert one is not None
        await replays.change(tx, replace(one, pace=pace))


def test_mistakes_are_told_with_field_rule_and_fix(replay: Callable[..., str]) -> None:
    told = {
        ("plan", *WHY): "give at least one condition",
        ("plan", "--where", "stat=held", *WHY): "there is no field 'stat'; fields are state, code, who",
        ("plan", "--where", "state=held", "--reason", " "): "must say why",
        ("plan", "--where", "code=NONE", *WHY): "no lodgment is meant by code=NONE; nothing was planned",
        ("plan", "--job-ids", "absent.txt", *WHY): "absent.txt cannot be read",
        ("start", "ffff"): "no replay is known as 'ffff'",
    }
    for arguments, text in told.items():
        with pytest.raises(PipelineError, match=text):
            replay(*arguments)
    assert replay("list").startswith("There are no replays.")


def test_a_mistake_is_one_line_on_the_real_command(lodge: Lodge, stored: list[Lodgment]) -> None:
    assert stored
    left = lodge("replay", "plan", "--where", "stat=held", *WHY)
    assert left.code == 2
    assert left.err.startswith("lodge: --where: there is no field 'stat'")
    assert left.err.count("\n") == 1
