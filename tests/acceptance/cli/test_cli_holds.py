"""What an operator sees of holds, lanes and replacements, and what release does to them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.ledger import holds, lodgments, migrate
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.session import Ledger
from pipeline.ledger.vault import Vault
from pipeline.lodgment.failures import Blast, Party
from pipeline.lodgment.holds import Hold, HoldState, Reach
from pipeline.lodgment.lodgment import LANE_TURN, Lodgment, Purpose, Reason
from pipeline.lodgment.states import State
from tests.acceptance.cli.conftest import Lodge
from tests.doubles.lodgments import a_lodgment, fresh_id

EMPLOYER, CODE = "51824753556", "SBR.GEN.AUTH.006"
NOW = datetime.now(UTC)
HOLD = Hold(
    id=fresh_id(NOW),
    reach=Reach("asic_bn", Blast.EMPLOYER, EMPLOYER),
    code=CODE,
    text="The employer notifies us in Access Manager.",
    who=Party.EMPLOYER,
    purpose=Purpose.SUBMIT,
    since=NOW - timedelta(hours=2),
)


def held(number: int) -> Lodgment:
    row = a_lodgment(NOW - timedelta(minutes=10) + timedelta(seconds=number))
    return replace(row, state=State.HELD, due_at=None, reason=HOLD.reason, hold_id=HOLD.id, order_key=f"lane {number}")


def behind(row: Lodgment) -> Lodgment:
    later = a_lodgment(NOW - timedelta(minutes=1))
    reason = Reason(LANE_TURN, "An earlier lodgment with the same order key is not final yet; this one follows it.")
    return replace(
        later,
        state=State.PARKED,
        resume=State.SEALED,
        due_at=NOW + timedelta(hours=1),
        reason=reason,
        order_key=row.order_key,
    )


@pytest.fixture
def stored(lodge: Lodge) -> list[Lodgment]:
    """Three that one hold keeps, the oldest first, and one behind the oldest in its lane."""
    rows = [held(number) for number in range(3)]
    return asyncio.run(_store(lodge, [*rows, behind(rows[0])]))


async def _store(lodge: Lodge, rows: Sequence[Lodgment]) -> list[Lodgment]:
    home = lodge.folder / "var"
    url = f"sqlite:///{home / 'ledger.sqlite3'}"
    await asyncio.to_thread(migrate.upgrade, url)
    ledger = Ledger(url, Vault([b"synthetic master key, 32 bytes!!"]))
    async with ledger.transaction() as tx:
        await holds.establish(tx, [HOLD])
        await lodgments.add(tx, [NewLodgment(row, "{}", {}) for row in rows])
    await ledger.close()
    return list(rows)


async def _look(lodge: Lodge, rows: Sequence[Lodgment]) -> tuple[Hold | None, list[Lodgment]]:
    ledger = Ledger(
        f"sqlite:///{lodge.folder / 'var' / 'ledger.sqlite3'}", Vault([b"synthetic master key, 32 bytes!!"])
    )
    async with ledger.transaction(read_only=True) as tx:
        found = await lodgments.load(tx, [row.id for row in rows])
        hold = await holds.load(tx, HOLD.id)
    await ledger.close()
    return hold, [found[row.id] for row in rows]


def test_status_shows_what_a_hold_keeps_and_who_waits_for_whom(lodge: Lodge, stored: list[Lodgment]) -> None:
    left = lodge("status", "--json")
    assert left.code == 0, left.err
    [one] = left.json()["holds"]
    assert (one["held"], one["hold"]["code"], one["hold"]["reach"]["key"]) == (3, CODE, EMPLOYER)
    [lane] = left.json()["lanes"]
    assert (lane["first"]["id"], lane["waiting"]) == (str(stored[0].id), 1)
    shown = lodge("status").out
    assert "Holds: nothing under them is sent" in shown
    assert "Lanes: who waits for whom" in shown


def test_explain_says_what_keeps_it_who_has_its_lane_and_what_to_press(lodge: Lodge, stored: list[Lodgment]) -> None:
    told = lodge("explain", str(stored[1].id)).out
    assert f"over employer {EMPLOYER} on asic_bn; keeps 2 more" in told
    assert f'lodge release --employer "{EMPLOYER}"' in told
    waits = lodge("explain", str(stored[3].id)).out
    assert f"{stored[0].id} (job {stored[0].job_id}), which has the lane and is held, {CODE}" in waits


@pytest.mark.parametrize("how", [("--employer", EMPLOYER), ("--held-for", CODE)])
def test_release_lets_the_oldest_go_first(lodge: Lodge, stored: list[Lodgment], how: tuple[str, str]) -> None:
    left = lodge("release", *how, "--reason", "notified by phone")
    assert left.code == 0, left.err
    assert "Released: 1." in left.out
    assert "Follow when the agency does not refuse the first: 2." in left.out
    hold, rows = asyncio.run(_look(lodge, stored))
    assert hold is not None
    assert (hold.state, hold.canary_id) == (HoldState.PROBING, stored[0].id)
    assert [row.state for row in rows] == [State.RECEIVED, State.HELD, State.HELD, State.PARKED]
    assert "release" in lodge("explain", str(stored[0].id)).out


def test_release_of_one_by_its_id_tries_the_hold_out_with_that_one(lodge: Lodge, stored: list[Lodgment]) -> None:
    assert lodge("release", str(stored[2].id), "--reason", "a try").code == 0
    hold, rows = asyncio.run(_look(lodge, stored))
    assert hold is not None
    assert hold.canary_id == stored[2].id
    assert [row.state for row in rows[:3]] == [State.HELD, State.HELD, State.RECEIVED]


def test_release_of_a_hold_that_there_is_not_says_where_to_look(lodge: Lodge, stored: list[Lodgment]) -> None:
    left = lodge("release", "--agent", "12345678", "--reason", "why not")
    assert left.code != 0
    assert "--agent 12345678: nothing is held that way; `lodge status` lists holds and codes" in left.err
    both = lodge("release", str(stored[0].id), "--employer", EMPLOYER, "--reason", "why not")
    assert "give ids, or one of --held-for, --employer, --agent, --credential, --channel" in both.err


def test_cancel_of_who_has_the_lane_lets_the_next_one_look_at_once(lodge: Lodge, stored: list[Lodgment]) -> None:
    assert lodge("cancel", str(stored[0].id), "--reason", "not wanted").code == 0
    _, rows = asyncio.run(_look(lodge, stored))
    due_at = rows[3].due_at
    assert rows[0].state is State.CANCELLED
    assert due_at is not None
    assert due_at <= datetime.now(UTC)
