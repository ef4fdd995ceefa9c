"""`lodge breaker` and `lodge policies` on a ledger of their own: stopping a channel, letting go, and the audit."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.ledger import lodgments
from pipeline.ledger.lodgment_rows import NewLodgment
from pipeline.ledger.session import Ledger
from pipeline.ledger.vault import Vault
from pipeline.lodgment.breaker import Breaker
from pipeline.lodgment.doors import Door, Shut, parked_at, stopped
from pipeline.lodgment.states import State
from tests.doubles.lodgments import a_lodgment
from tests.integration.test_software_ids_command import Lodge, alone  # noqa: F401  - a fixture

SETTINGS = """
environment = "evte"
[environments.evte]
agency_url = "https://agency.invalid"
authentication = "basic"
username = "synthetic"
password_file = "nowhere"
[[environments.evte.policies]]
channel = "asic_bn"
breaker_failures = 3
closedowns = [{ start = "2020-01-01T00:00:00Z", end = "2099-01-01T00:00:00Z", takes_documents = false }]
"""


@pytest.fixture
def lodge(alone: Lodge, monkeypatch: pytest.MonkeyPatch) -> Lodge:  # noqa: F811
    (alone.folder / "lodge.toml").write_text(SETTINGS)
    monkeypatch.setenv("LODGE_SETTINGS_FILE", str(alone.folder / "lodge.toml"))
    return alone


def store_waiting(folder: Path, count: int) -> None:
    """Lodgments that wait before the closed door of business names."""

    async def store() -> None:
        now = datetime.now(UTC)
        shut = Shut(Door("asic_bn", "business-names"), stopped(Breaker(), now, "synthetic", None))
        rows = []
        for _ in range(count):
            sealed = replace(a_lodgment(now), state=State.SEALED)
            rows.append(parked_at(sealed, shut, now, timedelta(hours=1)))
        ledger = Ledger(f"sqlite:///{folder / 'var' / 'ledger.sqlite3'}", Vault([bytes(32)]))
        async with ledger.transaction() as tx:
            await lodgments.add(tx, [NewLodgment(row, "{}", {}) for row in rows])
        await ledger.close()

    asyncio.run(store())


def test_a_person_stops_a_channel_sees_who_waits_and_lets_one_go_first(lodge: Lodge) -> None:
    assert lodge("breaker", "list").out == "No breaker ever opened: everything is asked as it comes.\n"
    left = lodge("breaker", "open", "asic_bn", "--reason", "a wrong address")
    assert (left.code, left.out) == (0, "Stopped: asic_bn: nothing is sent, until `lodge breaker close`.\n")
    store_waiting(lodge.folder, 3)
    for command in (("breaker", "list"), ("status",)):
        out = " ".join(lodge(*command).out.split())
        assert "Agency asic_bn: BREAKER OPEN since" in out
        assert "operator.stopped: Stopped by" in out
        assert "a wrong address" in out
        assert "Nothing is sent before `lodge breaker close`. Waiting: 3." in out
    [shown] = lodge("breaker", "list", "--json").json()
    assert (shown["name"], shown["state"], shown["waiting"], shown["probe_at"]) == ("asic_bn", "open", 3, None)
    assert lodge("breaker", "close", "asic_bn", "--reason", "mended").out == "Let go: asic_bn: one goes first.\n"
    assert "One goes first now." in lodge("breaker", "list").out
    assert lodge("breaker", "close", "asic_bn", "--reason", "all", "--at-once").code == 0
    assert "Agency asic_bn: asked as ever; 3 are being let go." in lodge("breaker", "list").out
    with closing(sqlite3.connect(lodge.folder / "var" / "ledger.sqlite3")) as ledger:
        deeds = ledger.execute("SELECT action, reason FROM operator_action ORDER BY id").fetchall()
    assert deeds == [
        ("breaker.open", "asic_bn: a wrong address"),
        ("breaker.close", "asic_bn: mended"),
        ("breaker.close", "asic_bn: all"),
    ]


def test_what_is_misspelt_not_stopped_or_without_a_reason_is_refused(lodge: Lodge) -> None:
    left = lodge("breaker", "open", "asic", "--reason", "x")
    assert (left.code, "there are: asic_bn, asic_bn/business-names [breaker.name]" in left.err) == (2, True)
    assert lodge("breaker", "open", "asic_bn", "--reason", " ").code == 2
    left = lodge("breaker", "close", "asic_bn", "--reason", "x")
    assert (left.code, "[breaker.none]" in left.err) == (1, True)


def test_a_stop_for_a_time_says_until_when(lodge: Lodge) -> None:
    assert lodge("breaker", "open", "asic_bn/business-names", "--for", "30", "--reason", "x").out.endswith(
        "Z, then one goes first.\n"
    )
    assert "One goes first in 29 min" in lodge("breaker", "list").out


def test_policies_shows_what_is_in_force_and_status_the_calendar(lodge: Lodge) -> None:
    out = lodge("policies").out
    assert "asic_bn business-names/bnLodgeApplication" in out
    assert "3 failures in a row" in out
    assert "nothing is sent" in out
    assert "20 a second" in out
    assert "1.1 times as long" in out
    [first, *_] = lodge("policies", "--json").json()
    assert (first["channel"], first["breaker"]["consecutive"]) == ("asic_bn", 3)
    assert "CLOSEDOWN: asic_bn/business-names: now, until 2099-01-01 00:00:00Z: nothing is sent." in lodge("status").out
