"""`lodge tokens`: a summary of all keys, a page of single ones, and asking ahead."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.bootstrap import open_ledger
from pipeline.interfaces.cli import main
from pipeline.interfaces.cli.tokens_warm import plan
from pipeline.ledger import channel_states, migrate, token_queue, tokens
from pipeline.ledger.session import Tx
from pipeline.ledger.token_queue import Bespoken, Wanted
from pipeline.lodgment.breaker import Breaker, BreakerPolicy, BreakerScope, opened
from pipeline.lodgment.failures import Blast, Failure, FailureClass, Party
from pipeline.lodgment.lodgment import Reason
from pipeline.lodgment.references import TokenKey
from pipeline.protocol.wstrust import SecurityToken
from pipeline.sandbox.home import synthetic_abn
from pipeline.settings import load_settings

STS = "https://sts.example.test/"
SETTINGS = f"""
environment = "local"
sts_rate = 10
[environments.local]
agency_url = "https://asic.example.test"
sts_url = "{STS}"
applies_to = "https://asic.example.test"
keystore = "keystore.xml"
keystore_password_file = "password"
credential = "ABRD:11000002568_Payroll"
act_as_employer = true
"""
DOWN = Failure(FailureClass.UNAVAILABLE, "E1003", "", "It is away.", Party.AGENCY, Blast.CHANNEL)

Lodge = Callable[..., tuple[int | str | None, str, str]]


@pytest.fixture
def lodge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lodge:
    """`lodge` in a folder with settings for a token service and an empty ledger."""
    for name in [name for name in os.environ if name.startswith("LODGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lodge.toml").write_text(SETTINGS)
    (tmp_path / "var").mkdir()
    monkeypatch.setenv("LODGE_SETTINGS_FILE", str(tmp_path / "lodge.toml"))
    migrate.upgrade(load_settings().ledger())

    def run(*arguments: str) -> tuple[int | str | None, str, str]:
        with pytest.raises(SystemExit) as left:
            main(arguments)
        said = capsys.readouterr()
        return left.value.code, said.out, said.err

    return run


def in_ledger(work: Callable[[Tx], Awaitable[None]]) -> None:
    async def do() -> None:
        ledger = open_ledger(load_settings())
        try:
            async with ledger.transaction() as tx:
                await work(tx)
        finally:
            await ledger.close()

    asyncio.run(do())


def key(number: int) -> TokenKey:
    abn = synthetic_abn(number)
    return TokenKey("local", STS, "https://asic.example.test", "ABRD:11000002568_Payroll", abn, "1234567895", (), 512)


def fill(count: int) -> None:
    """Keys of `count` employers: the first fails, the second has a token for ten minutes, the others wait."""

    async def work(tx: Tx) -> None:
        now = datetime.now(UTC)
        await token_queue.want(tx, [Wanted(key(number)) for number in range(count)], now, now)
        await tokens.claim(tx, [key(0), key(1)], "worker", now, now + timedelta(minutes=1))
        text = "No claims \x1b[31m of this business."
        retry = now + timedelta(minutes=4)
        await tokens.fail(tx, key(0).hash(), "worker", Reason("E2190", text, Party.AGENCY), retry, now)
        token = SecurityToken(b"<secret/>", b"proof", "_1", now, now + timedelta(minutes=10))
        await tokens.store(tx, key(1).hash(), "worker", token, now, now + timedelta(minutes=5))
        broken = opened(Breaker(), BreakerPolicy(), now, DOWN, 0.0)
        await channel_states.lock(tx, BreakerScope.STS, STS)
        await channel_states.write(tx, BreakerScope.STS, STS, broken)

    in_ledger(work)


def test_shows_counts_the_breaker_and_failed_keys_first(lodge: Lodge) -> None:
    fill(30)
    code, out, _ = lodge("tokens", "--limit", "3")
    assert code == 0
    lines = out.splitlines()
    counts = next(line for line in lines if line.startswith("ABRD:")).split()
    assert counts == ["ABRD:11000002568_Payroll", "30", "1", "0", "1", "0", "28", "local"]
    assert "Lodgments waiting for a token: 0" in lines
    assert any("BREAKER OPEN since" in line and "because E1003: It is away. (acts: agency)" in line for line in lines)
    assert any("last failed: E2190" in line and "asked again in 3 min" in line for line in lines)
    assert "\x1b" not in out
    assert "Shown: 3 of 30; --failed, --expiring, --employer, --credential narrow it." in lines


def test_filters_narrow_the_list_and_json_is_whole(lodge: Lodge) -> None:
    fill(5)

    def employers(*options: str) -> list[str]:
        code, out, _ = lodge("tokens", "--json", *options)
        assert code == 0
        assert "secret" not in out
        return [one["second_party"] for one in json.loads(out)["tokens"]]

    assert employers("--failed") == [synthetic_abn(0)]
    assert employers("--expiring", "15") == [synthetic_abn(1)]
    assert employers("--expiring", "5") == []
    assert employers("--employer", synthetic_abn(3)) == [synthetic_abn(3)]
    assert employers("--credential", "another") == []
    assert len(employers()) == 5


def test_warm_reads_a_manifest_and_a_plain_list_and_asks_in_time(lodge: Lodge, tmp_path: Path) -> None:
    manifest = tmp_path / "tonight.csv"
    manifest.write_text(
        "job_id,employer.abn,software_id\n"
        f"a,{synthetic_abn(1)},1234567895\nb,{synthetic_abn(1)},1234567895\nc,{synthetic_abn(2)},\n"
    )
    plain = tmp_path / "more.txt"
    plain.write_text(f"{synthetic_abn(3)}\n\n{synthetic_abn(2)}\n")
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=6)
    code, out, err = lodge(
        "tokens", "warm", str(manifest), str(plain), "--at", at.isoformat().replace("+00:00", "+0000")
    )
    assert (code, err) == (0, "")
    assert "3 employers, 3 token keys." in out
    _, out, _ = lodge("tokens", "--json")
    shown = json.loads(out)["tokens"]
    assert {(one["second_party"], one["software_id"]) for one in shown} == {
        (synthetic_abn(1), "1234567895"),
        (synthetic_abn(2), None),
        (synthetic_abn(3), None),
    }
    for one in shown:
        assert at - timedelta(minutes=3) < datetime.fromisoformat(one["ask_at"]) <= at - timedelta(minutes=2)
        assert datetime.fromisoformat(one["wanted_until"]) == at


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("12345678901\n", "row 1: column employer.abn: must be an ABN"),
        (
            f"employer.abn,software_id\n{synthetic_abn(1)},1234567890\n",
            "row 2: column software_id: control digit must be 5",
        ),
        ("", "there is no employer in these files"),
        ("employer.abn\n\x00\n", "column employer.abn: must be an ABN"),
    ],
)
def test_warm_says_what_is_wrong_with_a_list_and_takes_nothing_of_it(
    lodge: Lodge, tmp_path: Path, content: str, told: str
) -> None:
    (tmp_path / "list.csv").write_text(content)
    code, _, err = lodge("tokens", "warm", "list.csv")
    assert code == 2
    assert told in err
    assert err.count("\n") == 1
    assert json.loads(lodge("tokens", "--json")[1])["tokens"] == []


def test_warm_refuses_a_time_that_is_over_or_has_no_offset(lodge: Lodge, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(synthetic_abn(1))
    code, _, err = lodge("tokens", "warm", "list.csv", "--at", "2020-01-01T00:00+1100")
    assert (code, "is over" in err) == (2, True)
    assert lodge("tokens", "warm", "list.csv", "--at", "2030-01-01T00:00")[0] == 2
    code, _, err = lodge("tokens", "warm", "nowhere.csv")
    assert (code, "nowhere.csv cannot be read" in err) == (2, True)


def test_a_plan_keeps_below_the_rate_and_is_over_before_the_run() -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    at = now + timedelta(hours=8)
    planned: list[Bespoken] = plan([key(number) for number in range(5000)], at, now, 10, timedelta(minutes=4))
    times = [one.ask_at for one in planned]
    assert times == sorted(times)
    assert times[-1] <= at - timedelta(minutes=2)
    second = timedelta(seconds=1)
    assert max(sum(later < one + second for later in times[n : n + 12]) for n, one in enumerate(times)) <= 9
    late = plan([key(number) for number in range(10)], now + timedelta(seconds=5), now, 10, timedelta(minutes=4))
    assert late[0].ask_at == now
